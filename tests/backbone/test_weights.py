"""Checkpoints: every layout, wrapper and file type loads strictly; weights that do not fit raise with the reason."""

import argparse
import copy
import functools
import json
import os
import re
import zipfile
from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from fishnet.backbone import SPECS, FishNet
from fishnet.backbone.identify import describe, identify_misfits
from fishnet.backbone.weights import (
    fit,
    layout_of,
    load_weights,
    match_by_order,
    read_checkpoint,
    strip_prefixes,
    to_native,
)
from fishnet.errors import InputError
from tests.backbone.helpers import MICRO, PUBLISHED, computed, difference, drawn_state, filled, image, net, on_meta
from tests.backbone.layouts import LAYOUTS, State, to_layout
from tests.backbone.test_golden import GOLDEN

BARE = "tail.0.refine.0.shortcut.norm"  # what layout C has not
SMALL = "fishnet_nano"  # the smallest registered net: 10 classes here, and files of 2 MB

# Some of layout A's tensors, from its published list: one of each kind of place.
A_KEYS = {
    "conv1.0.weight": (32, 3, 3, 3),
    "conv3.1.running_var": (64,),
    "fish.fish.0.0.0.bn1.weight": (64,),
    "fish.fish.0.0.0.shortcut.0.running_mean": (64,),
    "fish.fish.0.0.0.shortcut.2.weight": (128, 64, 1, 1),
    "fish.fish.2.0.5.conv2.weight": (128, 128, 3, 3),
    "fish.fish.3.0.0.bias": (512,),
    "fish.fish.3.0.2.weight": (256, 512, 1, 1),
    "fish.fish.3.0.3.weight": (256,),
    "fish.fish.3.1.bias": (1024,),
    "fish.fish.3.2.0.shortcut.2.weight": (512, 1024, 1, 1),
    "fish.fish.3.3.0.0.running_var": (1024,),
    "fish.fish.3.3.0.3.weight": (32, 1024, 1, 1),
    "fish.fish.3.3.0.5.bias": (512,),
    "fish.fish.4.1.0.conv1.weight": (64, 256, 1, 1),
    "fish.fish.6.0.0.bn1.weight": (512,),
    "fish.fish.9.0.1.conv3.weight": (1600, 400, 1, 1),
    "fish.fish.9.1.3.bn3.bias": (128,),
    "fish.fish.9.3.0.weight": (2112,),
    "fish.fish.9.3.2.weight": (1056, 2112, 1, 1),
    "fish.fish.9.3.3.running_mean": (1056,),
    "fish.fish.9.4.1.weight": (1000, 1056, 1, 1),
}


@functools.cache
def source(name: str, num_classes: int = 10) -> FishNet:
    """A net with drawn weights that a test must not change."""
    model = fresh(name, num_classes=num_classes)
    model.load_state_dict(drawn_state(model))
    return model


def state_in(layout: str, name: str = SMALL) -> State:
    return to_layout(source(name).state_dict(), layout)


def wanted_state(layout: str, name: str = SMALL) -> State:
    """A net's tensors after loading :func:`state_in`: the source's, except for layout C's added norm."""
    state = dict(source(name).state_dict())
    if layout == "C":
        state = {key: value for key, value in state.items() if not key.startswith(BARE)}
    return state


def holds(model: nn.Module, wanted: State) -> None:
    own = model.state_dict()
    for key, value in wanted.items():
        assert torch.equal(own[key], value), key


def fresh(name: str = SMALL, **kwargs: Any) -> FishNet:
    return FishNet(SPECS[name], **{"num_classes": 10, **kwargs}).eval()


def saved(content: object, path: Path, **kwargs: Any) -> Path:
    torch.save(content, path, **kwargs)
    return path


def refusal(call: Callable[[], object]) -> str:
    """The one-line message of the InputError that a call raises."""
    with pytest.raises(InputError) as caught, identify_misfits():
        call()
    assert "\n" not in str(caught.value)
    return str(caught.value)


# --- layouts ------------------------------------------------------------------------------------------------------

FAST = {("fishnet99", layout) for layout in LAYOUTS}
CASES = [
    pytest.param(name, layout, marks=() if (name, layout) in FAST else pytest.mark.slow)
    for name in PUBLISHED
    for layout in LAYOUTS
    if (name, layout) != ("fishnet201", "pytorchcv")  # there is no such net
]


@functools.cache
def outputs(name: str, bare: bool) -> tuple[Tensor, Tensor]:
    """An input and a net's output in float64; with ``bare`` without the norm that layout C lacks."""
    model, x = copy.deepcopy(source(name)).double(), image(1, 3, 64, 64, dtype=torch.float64)
    if bare:
        shortcut = model.get_submodule(BARE.removesuffix(".norm"))
        shortcut.norm, shortcut.act = nn.Identity(), nn.Identity()
    with torch.no_grad():
        return x, model(x)


@pytest.mark.parametrize(("name", "layout"), CASES)
@torch.no_grad()
def test_every_layout_gives_the_same_function(name: str, layout: str) -> None:
    model = fresh(name).double()
    model.load_state_dict(state_in(layout, name))
    x, wanted = outputs(name, layout == "C")
    assert difference(model(x), wanted) < 1e-9
    holds(model.float(), wanted_state(layout, name))


@pytest.mark.parametrize("file", [torch.float32, torch.float64])
@pytest.mark.parametrize(
    ("model_dtype", "assign"), [(torch.float32, False), (torch.float64, False), (None, True)], ids=str
)
def test_the_norm_that_layout_c_lacks_is_the_identity_to_the_last_bit(
    file: torch.dtype, model_dtype: torch.dtype | None, assign: bool
) -> None:
    """Also for files of other precision than the model, and where the model takes the file's tensors themselves."""
    dtype = model_dtype or file
    state = {key: value.to(file) if value.is_floating_point() else value for key, value in state_in("C").items()}
    model = fresh().to(dtype)
    model.load_state_dict(state, assign=assign)
    norm = model.get_submodule(BARE)
    assert all(value.dtype == dtype for value in (*norm.parameters(), norm.running_mean, norm.running_var))
    x = image(2, 16, 9, 9, dtype=dtype).relu() * 1e3
    assert torch.equal(norm(x), x)


@pytest.mark.parametrize("name", computed(PUBLISHED))
def test_layout_a_is_the_published_list(name: str) -> None:
    state = to_layout(on_meta(name).state_dict(), "A")
    shapes = {key: tuple(value.shape) for key, value in state.items()}
    assert {key: shapes[key] for key in A_KEYS} == A_KEYS
    native = to_native(state)
    assert {key: v.shape for key, v in native.items()} == {k: v.shape for k, v in on_meta(name).state_dict().items()}


@pytest.mark.skipif(not GOLDEN.is_dir(), reason=f"no published key lists at {GOLDEN} (FISHNET_SHARED names another)")
@pytest.mark.parametrize("name", computed(PUBLISHED))
def test_layout_a_is_the_published_list_in_whole_and_in_order(name: str) -> None:
    wanted = json.loads((GOLDEN / "state_dict_shapes.json").read_text())[name]
    found = {key: list(value.shape) for key, value in to_layout(on_meta(name).state_dict(), "A").items()}
    counters = "num_batches_tracked"
    assert [(k, v) for k, v in found.items() if not k.endswith(counters)] == [
        (k, v) for k, v in wanted.items() if not k.endswith(counters)
    ]


@pytest.mark.parametrize("name", ["fishnet99", "fishnet150"])
def test_pytorchcv_layout_is_that_of_the_package(name: str) -> None:
    theirs = pytest.importorskip("pytorchcv.models.fishnet", reason="pytorchcv is not installed")
    with torch.device("meta"):
        wanted = getattr(theirs, name)().state_dict()
    found = to_layout(on_meta(name).state_dict(), "pytorchcv")
    assert {key: value.shape for key, value in found.items()} == {key: value.shape for key, value in wanted.items()}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("name", computed(PUBLISHED))
def test_files_are_told_apart(name: str, layout: str) -> None:
    it = describe(to_layout(on_meta(name, num_classes=7, in_chans=1).state_dict(), layout))
    assert (it.layout, it.variant, it.num_classes, it.in_chans) == (layout, name, 7, 1)
    whole = on_meta(name, num_classes=7, in_chans=1)
    lost = 128 if layout == "C" else 0  # weight and bias of a norm of 64 channels
    assert it.parameters == sum(p.numel() for p in whole.parameters()) - lost
    assert it.network == name


@pytest.mark.parametrize("layout", ["A", "B", "C"])
def test_a_part_of_a_file_is_enough_to_tell_its_layout(layout: str) -> None:
    """A file cut to its last stage (all layouts agree in most of the others)."""
    state = {key: value for key, value in state_in(layout).items() if key.startswith("fish.fish.9.")}
    assert layout_of(state) == layout


def test_a_name_that_two_tensors_claim_is_refused() -> None:
    state = state_in("A") | {"score.fc.bias": torch.zeros(10)}
    assert "are both the tensor score.fc.bias" in refusal(lambda: to_native(state))


def test_renaming_leaves_the_given_state_alone() -> None:
    state = {f"module.{key}": value for key, value in state_in("C").items()}
    before = dict(state)
    to_native(state)
    fresh().load_state_dict(state)
    assert list(state) == list(before)
    assert all(state[key] is before[key] for key in state)


def test_a_fishnet_inside_another_module_takes_every_layout() -> None:
    for layout in LAYOUTS:
        outer = nn.ModuleDict({"eye": fresh(), "other": nn.Linear(2, 2)})
        state = {f"eye.{key}": value for key, value in state_in(layout).items()}
        outer.load_state_dict({**state, **{f"other.{k}": v for k, v in outer["other"].state_dict().items()}})
        holds(outer["eye"], wanted_state(layout))


# --- prefixes, wrappers, files ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "prefix", ["module.", "_orig_mod.", "module._orig_mod.", "_orig_mod.module.", "model.", "net."]
)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_prefixes(layout: str, prefix: str, tmp_path: Path) -> None:
    state = {prefix + key: value for key, value in state_in(layout).items()}
    model = fresh()
    assert load_weights(model, saved(state, tmp_path / "net.pth")) == []
    holds(model, wanted_state(layout))
    hooked = fresh()
    hooked.load_state_dict(state)
    holds(hooked, wanted_state(layout))


def test_only_whole_prefixes_are_removed_and_only_where_all_keys_have_them() -> None:
    """``lstrip('module.')`` strips letters, not a prefix."""
    odd = {"module.module_list.weight": torch.zeros(1), "module.model.bias": torch.ones(1)}
    assert list(strip_prefixes(odd)) == ["module_list.weight", "model.bias"]
    mixed = {"module.a.weight": torch.zeros(1), "b.weight": torch.zeros(1)}
    assert list(strip_prefixes(mixed)) == list(mixed)


Wrap = Callable[[State], dict[str, Any]]


def _zeros(state: State) -> State:
    return {key: torch.zeros_like(value) for key, value in state.items()}


@pytest.mark.parametrize(
    "wrap",
    [
        pytest.param(lambda s: {"state_dict": s}, id="state_dict"),
        pytest.param(lambda s: {"model": s, "epoch": 3}, id="model"),
        pytest.param(lambda s: {"model_state_dict": s}, id="model_state_dict"),
        pytest.param(lambda s: {"ema": s, "model": _zeros(s)}, id="ema before model"),
        pytest.param(lambda s: {"state_dict": _zeros(s), "model_ema": s}, id="model_ema before state_dict"),
        pytest.param(lambda s: {"state_dict": _zeros(s), "state_dict_ema": s}, id="state_dict_ema before state_dict"),
        pytest.param(lambda s: {"model": {"state_dict": s}}, id="nested"),
        pytest.param(lambda s: {"ema": None, "state_dict": s}, id="empty ema"),
        pytest.param(lambda s: {"n_averaged": torch.tensor(5), **{f"module.{k}": v for k, v in s.items()}}, id="swa"),
    ],
)
@pytest.mark.parametrize("layout", ["native", "A"])
def test_wrappers(layout: str, wrap: Wrap, tmp_path: Path) -> None:
    model = fresh()
    load_weights(model, saved(wrap(state_in(layout)), tmp_path / "net.pth"))
    holds(model, wanted_state(layout))
    hooked = fresh()
    hooked.load_state_dict(wrap(state_in(layout)))
    holds(hooked, wanted_state(layout))


def test_the_average_in_a_checkpoint_of_this_projects_training(tmp_path: Path) -> None:
    state = state_in("native")
    plain = {f"model.trunk.{key}": value for key, value in _zeros(state).items()}
    content = {"state_dict": {**plain, **{f"ema.module.trunk.{key}": value for key, value in state.items()}}}
    model = fresh()
    load_weights(model, saved(content, tmp_path / "last.ckpt"))
    holds(model, wanted_state("native"))


@pytest.mark.parametrize("best", [71.5, torch.tensor(71.5), np.float64(71.5), np.float32(71.5)], ids=repr)
@pytest.mark.parametrize("zipped", [True, False], ids=["today's pickle", "the pickle of torch 0.4"])
def test_the_authors_kind_of_file(best: object, zipped: bool, tmp_path: Path) -> None:
    """DataParallel's keys, no counters, an optimizer with momentum, figures as numpy scalars, called .tar."""
    state = {f"module.{key}": value for key, value in state_in("A").items() if not key.endswith("num_batches_tracked")}
    trained = fresh()
    optimizer = torch.optim.SGD(trained.parameters(), lr=0.1, momentum=0.9)
    for p in trained.parameters():
        p.grad = torch.ones_like(p)
    optimizer.step()
    content = {
        "epoch": 100, "arch": SMALL, "state_dict": state, "best_prec1": best, "optimizer": optimizer.state_dict(),
        "args": argparse.Namespace(lr=0.1),
    }  # fmt: skip
    path = saved(content, tmp_path / "fishnet_ckpt.tar", _use_new_zipfile_serialization=zipped)
    model = fresh()
    assert load_weights(model, path) == []
    holds(model, {key: value for key, value in wanted_state("A").items() if not key.endswith("num_batches_tracked")})


@pytest.mark.parametrize(
    "name", ["a.tar", "a.pth", "a.pt", "a.ckpt", "a", "a.safetensors", "a.pth.zip", "a.SafeTensors"]
)
@pytest.mark.parametrize("layout", ["C", "native"])
def test_file_types(name: str, layout: str, tmp_path: Path) -> None:
    path, state = tmp_path / name, state_in(layout)
    if name.lower().endswith(".safetensors"):
        save_file({key: value.clone() for key, value in state.items()}, path)
    elif name.endswith(".zip"):
        buffer = BytesIO()
        torch.save(state, buffer)
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("a.pth", buffer.getvalue())
    else:
        torch.save(state, path)
    model = fresh()
    assert load_weights(model, path) == []
    holds(model, wanted_state(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_counters_may_be_missing_and_are_kept_where_they_are_not(layout: str) -> None:
    state = state_in(layout)
    with_counters = {k: torch.tensor(12) if k.endswith("num_batches_tracked") else v for k, v in state.items()}
    without = {key: value for key, value in state.items() if not key.endswith("num_batches_tracked")}
    assert len(without) < len(state)
    for given, wanted in ((with_counters, 12), (without, 0)):
        model = fresh()
        model.load_state_dict(given)
        counters = {key: value for key, value in model.named_buffers() if key.endswith("num_batches_tracked")}
        added = {f"{BARE}.num_batches_tracked"} if layout == "C" else set()
        assert {int(value) for key, value in counters.items() if key not in added} == {wanted}


def test_values_survive_every_step(tmp_path: Path) -> None:
    """Half precision, parameters instead of tensors, and keys of other kinds beside them."""
    state = {key: nn.Parameter(v.half()) if v.is_floating_point() else v for key, v in state_in("B").items()}
    model = fresh()
    load_weights(model, saved({"state_dict": {**state, "note": "text", 3: 4}}, tmp_path / "half.pth"))
    for key, value in wanted_state("B").items():
        assert torch.equal(model.state_dict()[key], value.half().to(value.dtype)), key
    assert not any(value.requires_grad for value in model.state_dict().values())


# --- strictness ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("adapt", [False, True])
def test_what_does_not_fit_is_listed_and_nothing_is_loaded(layout: str, adapt: bool, tmp_path: Path) -> None:
    state = state_in(layout)
    native = source(SMALL).state_dict()
    lost, grown = "head.1.refine.0.norm2.bias", "body.0.transfer.0.conv2.weight"
    names = dict(zip(wanted_state(layout), state, strict=True))
    del state[names[lost]]
    state[names[grown]] = torch.zeros(1, 2, 3, 3)
    state["extra.weight"] = torch.zeros(4)
    model = fresh()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    path = saved(state, tmp_path / "damaged.pth")
    message = refusal(lambda: load_weights(model, path, adapt=adapt))
    shape = tuple(native[grown].shape)
    assert message.startswith(
        f"{path}: does not fit this model: 1 missing ({lost}); 1 unexpected (extra.weight); "
        f"1 misshapen ({grown} (1, 2, 3, 3) instead of {shape}). The file seems to hold {SMALL} but for 1 missing"
    )
    assert f"in layout {layout}, 10 classes, 3 input channels" in message
    assert "adapt=True" not in message, "that would not make it fit"
    holds(model, before)


def test_long_lists_are_cut() -> None:
    state = {"score.fc.bias": torch.zeros(10), "bridge.gate.fc1.bias": torch.zeros(1)}
    message = refusal(lambda: fit(FishNet(MICRO, num_classes=10), state))
    assert re.search(r"\d{3} missing \(([\w.]+, ){4}\.\.\.\)", message)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_files_of_another_fishnet_are_named(layout: str, tmp_path: Path) -> None:
    path = saved(state_in(layout), tmp_path / "net.pth")
    message = refusal(lambda: load_weights(fresh("fishnet_tiny"), path, adapt=True))
    assert f"seems to hold {SMALL} in layout {layout}, 10 classes, 3 input channels" in message


def test_files_of_other_networks_are_no_fishnet(tmp_path: Path) -> None:
    path = saved(nn.Linear(3, 4).state_dict(), tmp_path / "linear.pth")
    message = refusal(lambda: load_weights(fresh(), path))
    assert "2 unexpected (bias, weight)" in message
    assert "seems to hold no FishNet of a known layout (16 parameters)" in message


def test_torch_itself_stays_strict_behind_the_hook() -> None:
    state = {f"module.{key}": value for key, value in state_in("A").items()}
    del state["module.fish.fish.9.4.1.bias"]
    with pytest.raises(RuntimeError, match=r'Missing key\(s\) in state_dict: "score\.fc\.bias"'):
        fresh().load_state_dict(state)
    with pytest.raises(RuntimeError, match=r"size mismatch for score\.fc\.weight"):
        fresh(num_classes=4).load_state_dict(state_in("A"))


def test_a_spec_of_ones_own_is_told_as_such() -> None:
    it = describe(to_layout(net(MICRO).state_dict(), "A"))
    assert (it.layout, it.variant, it.near) == ("A", None, None)
    assert str(it) == "a FishNet of no registered variant in layout A, 10 classes, 3 input channels"
    FishNet(MICRO, num_classes=10).load_state_dict(to_layout(net(MICRO).state_dict(), "A"))


# --- adaptation ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("layout", LAYOUTS)
def test_other_classes_are_adapted_on_request_and_announced(layout: str, tmp_path: Path) -> None:
    path = saved(state_in(layout), tmp_path / "net.pth")
    model = fresh(num_classes=4)
    own = model.score.fc.weight.clone()
    message = refusal(lambda: load_weights(model, path))
    assert "score.fc.weight (10, " in message
    assert message.endswith("Loading with adapt=True would make it fit")
    notes = load_weights(model, path, adapt=True)
    assert notes == ["classifier of 10 classes left out: this model's, of 4 classes, is new"]
    assert torch.equal(model.score.fc.weight, own)
    holds(model, {key: v for key, v in wanted_state(layout).items() if not key.startswith("score.fc.")})


def test_no_classifier_on_either_side(tmp_path: Path) -> None:
    path = saved(source(SMALL).state_dict(), tmp_path / "net.pth")
    assert "unexpected (score.fc.bias, score.fc.weight)" in refusal(lambda: load_weights(fresh(num_classes=0), path))
    headless = fresh(num_classes=0)
    assert load_weights(headless, path, adapt=True) == ["classifier of 10 classes left out: this model has none"]
    path = saved(headless.state_dict(), tmp_path / "headless.pth")
    assert describe(read_checkpoint(path)).num_classes == 0
    model = fresh()
    assert "2 missing (score.fc.bias, score.fc.weight)" in refusal(lambda: load_weights(model, path))
    assert load_weights(model, path, adapt=True) == [
        "no classifier in the file: this model's, of 10 classes, is new",
    ]


@pytest.mark.parametrize(
    ("layout", "channels"), [*((layout, 1) for layout in LAYOUTS), ("A", 2), ("native", 4), ("pytorchcv", 6), ("C", 7)]
)
def test_other_channels_are_adapted_on_request_and_announced(layout: str, channels: int, tmp_path: Path) -> None:
    path = saved(state_in(layout), tmp_path / "net.pth")
    model = fresh(in_chans=channels)
    message = refusal(lambda: load_weights(model, path))
    assert "1 misshapen (stem.0.conv.weight " in message
    assert "adapt=True" in message
    assert load_weights(model, path, adapt=True) == [f"input convolution adapted from 3 to {channels} channels"]
    weight, theirs = model.stem[0].conv.weight, source(SMALL).stem[0].conv.weight
    assert torch.allclose(weight[:, 0], theirs.sum(1) if channels == 1 else theirs[:, 0] * 3 / channels, atol=1e-6)
    holds(model, {key: v for key, v in wanted_state(layout).items() if key != "stem.0.conv.weight"})


@torch.no_grad()
def test_adapted_channels_see_a_grey_image_as_before(tmp_path: Path) -> None:
    """The same value in every channel gives the same output, where the file's channels divide the model's or vice
    versa: the weights are shared out evenly."""
    path = saved(source(SMALL).state_dict(), tmp_path / "net.pth")
    x = image(1, 1, 64, 64)
    wanted = source(SMALL)(x.expand(-1, 3, -1, -1))
    for channels in (1, 6):
        model = fresh(in_chans=channels)
        load_weights(model, path, adapt=True)
        # float32: sums in another order
        assert difference(model(x.expand(-1, channels, -1, -1)), wanted) < 1e-4


@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_trunk_that_ends_with_the_body(layout: str, tmp_path: Path) -> None:
    path = saved(state_in(layout), tmp_path / "net.pth")
    model = fresh(end="body")
    message = refusal(lambda: load_weights(model, path))
    assert "unexpected (head.0." in message
    assert "adapt=True" in message
    before = {key: value.clone() for key, value in model.score.state_dict().items()}
    (note,) = load_weights(model, path, adapt=True)
    assert re.fullmatch(
        r"\d+ tensors of the fish's head left out: this trunk ends with the body, its score layer is new", note
    )
    holds(model, {key: v for key, v in wanted_state(layout).items() if not key.startswith(("head.", "score."))})
    holds(model.score, before)


def test_a_file_of_such_a_trunk(tmp_path: Path) -> None:
    body = filled(fresh(end="body"))
    path = saved(body.state_dict(), tmp_path / "body.pth")
    twin = fresh(end="body")
    assert load_weights(twin, path) == []
    holds(twin, body.state_dict())
    it = describe(read_checkpoint(path))
    assert (it.layout, it.variant, it.num_classes) == ("native", SMALL, 10)
    for adapt in (False, True):
        assert "missing (head.0." in refusal(lambda adapt=adapt: load_weights(fresh(), path, adapt=adapt))


def test_weights_of_a_task_model(tmp_path: Path) -> None:
    """Keys as in a bundle's model.safetensors: trunk.*, and of other tasks a head beside it."""
    state = {f"trunk.{key}": value for key, value in source(SMALL).state_dict().items()}
    plain = tmp_path / "classify.safetensors"
    save_file(state, plain)
    model = fresh()
    assert load_weights(model, plain) == []
    holds(model, source(SMALL).state_dict())

    other = saved({**state, "neck.weight": torch.zeros(2, 2), "neck.bias": torch.zeros(2)}, tmp_path / "detect.pth")
    it = describe(read_checkpoint(other))
    assert (it.layout, it.variant, it.num_classes) == ("native", SMALL, 10)
    assert it.tensors == len(state) + 2
    message = refusal(lambda: load_weights(fresh(), other))
    assert f"{len(state) + 2} unexpected (neck.bias, neck.weight, trunk." in message
    assert "adapt=True" in message
    model = fresh()
    assert load_weights(model, other, adapt=True) == ["2 tensors of a task head left out"]
    holds(model, source(SMALL).state_dict())


def test_other_timm_networks_are_adapted_alike(tmp_path: Path) -> None:
    theirs = filled(timm.create_model("mobilenetv3_small_050", num_classes=5))
    path = saved(theirs.state_dict(), tmp_path / "mobile.pth")
    model = timm.create_model("mobilenetv3_small_050", num_classes=3, in_chans=1)
    message = refusal(lambda: load_weights(model, path))
    assert "misshapen (classifier.bias (5,) instead of (3,)" in message
    assert "adapt=True" in message
    assert load_weights(model, path, adapt=True) == [
        "classifier of 5 classes left out: this model's, of 3 classes, is new",
        "input convolution adapted from 3 to 1 channels",
    ]
    holds(model, {k: v for k, v in theirs.state_dict().items() if not k.startswith(("classifier.", "conv_stem."))})


# --- files that are none --------------------------------------------------------------------------------------------


def test_paths_without_a_file(tmp_path: Path) -> None:
    assert "nowhere.pth: no such checkpoint file" in refusal(lambda: read_checkpoint(tmp_path / "nowhere.pth"))
    assert f"{tmp_path}: is a folder" in refusal(lambda: read_checkpoint(tmp_path))


@pytest.mark.parametrize("name", ["a.pth", "a.tar", "a.safetensors", "a.pth.zip"])
@pytest.mark.parametrize("content", [b"", b"this is text\n", b"\x80\x02}q\x00.", b"\x00" * 64], ids=repr)
def test_files_that_are_no_checkpoints(name: str, content: bytes, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    message = refusal(lambda: read_checkpoint(path))
    assert message.startswith(f"{path}: ")
    assert re.search("not a readable|holds no state dict", message)


@pytest.mark.parametrize("name", ["a.pth", "a.safetensors", "a.pth.zip"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.999])
def test_truncated_files(name: str, share: float, tmp_path: Path) -> None:
    path, state = tmp_path / name, {f"{i}.weight": torch.randn(100) for i in range(50)}
    if name.endswith(".safetensors"):
        save_file(state, path)
    elif name.endswith(".zip"):
        inner = saved(state, tmp_path / "inner")
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(inner)
    else:
        torch.save(state, path)
    assert len(read_checkpoint(path)) == 50
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    message = refusal(lambda: read_checkpoint(path))
    assert message.startswith((f"{path}: not a readable", f"{path}: not a complete safetensors file"))


@pytest.mark.parametrize("content", [{}, {"epoch": 3}, [torch.zeros(2)], torch.zeros(2), {"state_dict": {}}], ids=repr)
def test_files_without_a_state_dict(content: object, tmp_path: Path) -> None:
    path = saved(content, tmp_path / "a.pth")
    assert f"{path}: holds no state dict" in refusal(lambda: read_checkpoint(path))


class Innocent:
    """A class that a pickle would have to import."""

    def __init__(self) -> None:
        self.weight = torch.zeros(2)


class Harmful:
    """Runs a command when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("name", ["a.pth", "a.tar", "a.pth.zip"])
@pytest.mark.parametrize(("kind", "needed"), [(Innocent, "Innocent"), (Harmful, "system")])
def test_pickles_that_need_more_than_tensors(kind: type, needed: str, name: str, zipped: bool, tmp_path: Path) -> None:
    marker = tmp_path / "it-ran"
    thing = kind(marker) if kind is Harmful else kind()
    path = tmp_path / name
    inner = saved(
        {"state_dict": state_in("A"), "thing": thing}, tmp_path / "inner", _use_new_zipfile_serialization=zipped
    )
    if name.endswith(".zip"):
        with zipfile.ZipFile(path, "w") as archive:
            archive.write(inner)
    else:
        inner.rename(path)
    message = refusal(lambda: read_checkpoint(path))
    assert message.startswith(f"{path}: refused: its pickle needs more than tensors (")
    assert needed in message
    assert "save only its state_dict" in message
    assert not marker.exists()


def test_a_whole_pickled_model_is_refused(tmp_path: Path) -> None:
    path = saved(fresh(), tmp_path / "model.pth")
    assert "refused: its pickle needs more than tensors (fishnet.backbone.fishnet.FishNet)" in refusal(
        lambda: read_checkpoint(path)
    )


# --- by order -------------------------------------------------------------------------------------------------------


def anonymous(state: State) -> State:
    """The same tensors in the same order, under names that contain only their kind."""
    return {f"layer{i}.{key.rpartition('.')[2]}": value for i, (key, value) in enumerate(state.items())}


@pytest.mark.parametrize("counters", [True, False])
def test_by_order(counters: bool, tmp_path: Path) -> None:
    own = filled(timm.create_model("mobilenetv3_small_050", num_classes=5)).state_dict()
    state = {key: value for key, value in own.items() if counters or not key.endswith("num_batches_tracked")}
    path = saved(anonymous(state), tmp_path / "renamed.pth")
    model = timm.create_model("mobilenetv3_small_050", num_classes=5)
    assert "seems to hold no FishNet" in refusal(lambda: load_weights(model, path))
    assert load_weights(model, path, by_order=True) == []
    holds(model, {key: value for key, value in own.items() if not key.endswith("num_batches_tracked")})


def test_by_order_takes_a_fishnet_too(tmp_path: Path) -> None:
    model = fresh()
    load_weights(model, saved(anonymous(source(SMALL).state_dict()), tmp_path / "renamed.pth"), by_order=True)
    holds(model, {k: v for k, v in source(SMALL).state_dict().items() if not k.endswith("num_batches_tracked")})


def small() -> nn.Module:
    return nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Conv2d(4, 4, 1))


def test_by_order_refuses_other_counts(tmp_path: Path) -> None:
    state = {key: value for key, value in small().state_dict().items() if key != "2.bias"}
    path = saved(state, tmp_path / "a.pth")
    message = refusal(lambda: load_weights(small(), path, by_order=True))
    assert message == f"{path}: cannot match by order: the file has 7 tensors, the model 8"


def test_by_order_refuses_other_shapes_and_kinds() -> None:
    state = anonymous(small().state_dict())
    keys = list(state)
    message = refusal(lambda: match_by_order(small(), {**state, keys[0]: torch.zeros(4, 2, 1, 1)}))
    pair = f"{keys[0]} (4, 2, 1, 1) of the file is not 0.weight (4, 3, 1, 1) of the model"
    assert message == f"cannot match by order: {pair}"
    swapped = [keys[0], keys[1], keys[3], keys[2], *keys[4:]]  # a norm's weight and bias: shapes alone would agree
    message = refusal(lambda: match_by_order(small(), {key: state[key] for key in swapped}))
    assert f"{keys[3]} (4,) of the file is not 1.weight (4,)" in message


def test_by_order_needs_a_file_that_keeps_it(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    save_file(small().state_dict(), path)
    assert "do not keep the order" in refusal(lambda: load_weights(small(), path, by_order=True))


# --- timm -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("suffix", ["pth", "tar", "safetensors"])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_timms_checkpoint_path(layout: str, suffix: str, tmp_path: Path) -> None:
    path, state = tmp_path / f"net.{suffix}", {f"module.{k}": v for k, v in state_in(layout).items()}
    if suffix == "safetensors":
        save_file({key: value.clone() for key, value in state.items()}, path)
    else:
        torch.save(state if suffix == "pth" else {"epoch": 1, "state_dict": state}, path)
    holds(timm.create_model(SMALL, num_classes=10, checkpoint_path=str(path)), wanted_state(layout))


@pytest.mark.parametrize("layout", LAYOUTS)
def test_timms_checkpoint_path_is_strict(layout: str, tmp_path: Path) -> None:
    path = saved(state_in(layout), tmp_path / "net.pth")
    with pytest.raises(RuntimeError, match=r"size mismatch for score\.fc\.weight"):
        timm.create_model(SMALL, num_classes=4, checkpoint_path=str(path))
    with pytest.raises(RuntimeError, match=r"Error\(s\) in loading state_dict"):
        timm.create_model("fishnet_tiny", num_classes=10, checkpoint_path=str(path))


def test_drawn_states_differ_everywhere() -> None:
    """No two tensors of the source are equal, so the comparisons above detect swapped tensors."""
    seen: dict[bytes, str] = {}
    for key, value in drawn_state(fresh()).items():
        content = value.numpy().tobytes()
        assert content not in seen, (key, seen.get(content))
        seen[content] = key


@pytest.mark.parametrize(
    ("indices", "note"), [((0, 1, 2, 3), "score layer left out"), ((0, 1), "trunk ends after an earlier stage")]
)
@torch.no_grad()
def test_features_only_models_load_too(indices: tuple[int, ...], note: str, tmp_path: Path) -> None:
    whole = net("fishnet_nano")
    torch.save(whole.state_dict(), tmp_path / "nano.pth")
    features = timm.create_model("fishnet_nano", features_only=True, out_indices=indices).eval()
    with pytest.raises(InputError, match="unexpected"):
        load_weights(features, tmp_path / "nano.pth")
    notes = load_weights(features, tmp_path / "nano.pth", adapt=True)
    assert len(notes) == 1
    assert note in notes[0]
    x = image(1, 3, 64, 64)
    wanted = whole.forward_intermediates(x, indices=list(indices), intermediates_only=True)
    assert all(torch.equal(a, b) for a, b in zip(features(x), wanted, strict=True))
