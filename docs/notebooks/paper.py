# %% [markdown]
# # The paper's story, in small
#
# *Anomalous Pattern Detection in Activations and Reconstruction Error of Autoencoder* says: train an autoencoder on clean images,
# scan its activations, and attacked images give themselves away, although nobody showed it an attack. Here is the whole argument on
# 400 clean images and one attack, and what the story leaves out. [All cells of the paper](../results.md) take 20 minutes.

# %%
# %matplotlib inline
import numpy as np

from subsetscan import Background, plot
from subsetscan.lab.attacks import attack
from subsetscan.lab.datasets import load_sample
from subsetscan.lab.networks import load_pretrained
from subsetscan.measures import auroc
from subsetscan.spaces import Layers, ReconstructionError

images, labels = load_sample()
autoencoder, classifier = load_pretrained("autoencoder"), load_pretrained("classifier")
background, clean, to_attack = images[:1000], images[1000:1400], slice(1400, 1800)

# %% [markdown]
# ## Attack a classifier
#
# FGSM moves each pixel by 0.03, so that the classifier sees another class. In the paper's protocol pixels may leave [0, 1], and
# images that the classifier gets wrong anyway count as attacked.

# %%
as_paper = attack(classifier, images[to_attack], labels[to_attack], "fgsm", eps=0.03, protocol="paper")
print(f"{len(as_paper.images)} of {as_paper.n_tried} attacks succeeded")

# %% [markdown]
# ## Scan the autoencoder
#
# The autoencoder has nothing to do with the classifier. For each image, each of its nodes gets a p-value among the same node's values
# on 1,000 clean images; the score is that of the set of nodes with most small p-values.

# %%
spaces = {"first layer": Layers(autoencoder, ["conv2d_1"]), "error": ReconstructionError(autoencoder)}


def nodes(space, inputs):
    return space.transform(inputs)[space.names[0]]


backgrounds = {name: Background(nodes(space, background)) for name, space in spaces.items()}


def scores(inputs):
    return {name: backgrounds[name].scan(nodes(space, inputs)).scores for name, space in spaces.items()}


usual, attacked = scores(clean), scores(as_paper.images)
for name in spaces:
    print(f"{name}: AUROC {auroc(usual[name], attacked[name])}")

# %%
plot.roc_and_densities({"FGSM": (usual["error"], attacked["error"])}, "reconstruction error")

# %% [markdown]
# So it works, and better than chance by far: 0.5 would be chance, and the interval is 95 %.
#
# ## Look again
#
# Black pixels that are made darker are negative, and no clean image has those. A detector that asks for the smallest pixel is better than the scan:

# %%
darkest = (-images[1000:1400].min(axis=(1, 2, 3)), -as_paper.images.min(axis=(1, 2, 3)))
print(f"smallest pixel: AUROC {auroc(*darkest)}")

# %% [markdown]
# So let pixels stay in [0, 1], and attack only images that the classifier gets right. And compare with clean images that have *noise*
# of the same size: the attack's own changes, with random signs.

# %%
valid = attack(classifier, images[to_attack], labels[to_attack], "fgsm", eps=0.03, protocol="valid")
sources = images[to_attack][valid.sources]
signs = np.random.default_rng(0).choice([-1, 1], sources.shape)
noisy = np.clip(sources + signs * np.abs(valid.images - sources), 0, 1).astype(np.float32)

of_valid, of_noise = scores(valid.images), scores(noisy)
for name in spaces:
    areas = [auroc(usual[name], some[name]) for some in (of_valid, of_noise)]
    print(f"{name}: AUROC of attacks {areas[0]}, of noise {areas[1]}")

# %% [markdown]
# ## What is left
#
# The scan still sees something, less of it, and it sees noise too. It tells inputs that are unlike clean ones; whether an attack made
# them so is another question. For what that is worth, without a choice of layer and tail, see [the automatic detector](../defaults.md); for
# attackers who know it, [how they get by](../adaptive.md).

# %%
assert auroc(usual["error"], of_valid["error"]).value < auroc(usual["error"], attacked["error"]).value
