# %% [markdown]
# # Your own model
#
# From a model that was just trained to a detector that is kept: digits, a small network of Keras, and inputs that it was never meant for.

# %%
# %matplotlib inline
import keras
import numpy as np
from sklearn.datasets import load_digits

from subsetscan import ModelScanner, plot

pixels, digits = load_digits(return_X_y=True)
images = (pixels / 16).reshape(-1, 8, 8, 1).astype(np.float32)
order = np.random.default_rng(0).permutation(len(images))
known, unknown = order[digits[order] < 8], order[digits[order] >= 8]
to_train, clean, fresh = np.split(known, [600, 1100])

keras.utils.set_random_seed(0)
model = keras.Sequential(
    [
        keras.Input((8, 8, 1)),
        keras.layers.Conv2D(12, 3, activation="relu", name="first"),
        keras.layers.Conv2D(24, 3, activation="relu", name="second"),
        keras.layers.Flatten(),
        keras.layers.Dense(32, activation="relu", name="hidden"),
        keras.layers.Dense(8, activation="softmax", name="classes"),
    ]
)
model.compile("adam", "sparse_categorical_crossentropy")
history = model.fit(images[to_train], digits[to_train], epochs=30, verbose=0)

# %% [markdown]
# ## Fit on clean inputs that it was not trained on
#
# Zeros to sevens; eights and nines it has never seen.

# %%
scanner = ModelScanner.automatic(model).fit(images[clean])
scanner.names

# %% [markdown]
# ## How many are flagged?

# %%
noise = np.random.default_rng(1).normal(0, 0.2, images[fresh].shape)
sets = {
    "clean": images[fresh],
    "eights and nines": images[unknown],
    "upside down": images[fresh][:, ::-1],
    "with noise": np.clip(images[fresh] + noise, 0, 1).astype(np.float32),
    "too bright": np.clip(images[fresh] * 1.5, 0, 1),
}
for name, inputs in sets.items():
    sure = model.predict(inputs, verbose=0).max(axis=1).mean()
    flagged = np.mean(scanner.predict(inputs) == -1)
    assert flagged < 0.12 if name == "clean" else flagged > 0.05
    print(f"{name:17} {flagged:4.0%} flagged; the model is {sure:.0%} sure on average")

# %% [markdown]
# The last column is what the model itself says: of noise, which the scanner flags, it is nearly as sure as of clean digits.
#
# ## Scores and threshold
#
# P-values of clean inputs are spread evenly from 0 to 1; those of odd ones gather near 0.

# %%
evidence = {name: -np.log10(scanner.p_values(inputs)) for name, inputs in sets.items()}
clean_evidence = evidence.pop("clean")
panels = {name: {"clean": clean_evidence, name: own} for name, own in evidence.items()}
thresholds = dict.fromkeys(panels, -np.log10(0.05))
plot.densities(panels, xlabel="-log10 p", thresholds=thresholds)

# %% [markdown]
# ## One input

# %%
oddest = sets["upside down"][np.argmin(scanner.p_values(sets["upside down"]))]
told = scanner.explain(oddest)
told

# %%
plot.explanation(told, oddest)

# %% [markdown]
# ## Keep it
#
# A folder of arrays and JSON. It knows the model's weights: with others you are warned.

# %%
scanner.save("fitted")
again = ModelScanner.load("fitted", scanner.spaces)
assert np.array_equal(again.p_values(images[fresh]), scanner.p_values(images[fresh]))

# %% [markdown]
# [More kinds of models](../howto/index.md), and [what to do when clean inputs drift](../howto/calibration.md#drift).
