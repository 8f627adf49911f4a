from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

torch = pytest.importorskip("torch")
checkpoints = pytest.importorskip("checkpoints", exc_type=ImportError)

import huggingface_hub.constants  # noqa: E402
from safetensors.torch import save_file  # noqa: E402

from action100m.checkpoint import CheckpointError  # noqa: E402
from action100m.segmentation.encoders.vjepa2 import open_checkpoint  # noqa: E402

COMMIT = "0123456789abcdef0123456789abcdef01234567"
NAME = "somebody/vjepa2-tiny"


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return checkpoints.save_vjepa2(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def offline_cache(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The hub's cache as a download leaves it, and no network."""
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    model = tmp_path / "models--somebody--vjepa2-tiny"
    shutil.copytree(tiny, model / "snapshots" / COMMIT)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    return tmp_path


@pytest.mark.parametrize("revision", [None, "main", COMMIT])
def test_a_hub_name_is_found_in_the_cache_and_pinned(
    offline_cache: Path, revision: str | None
) -> None:
    checkpoint = open_checkpoint(NAME, revision)
    assert checkpoint.revision == COMMIT
    assert checkpoint.identity == f"{NAME}@{COMMIT}"
    assert checkpoint.weights()


def test_an_unreachable_hub_is_replaced_by_the_cache(
    offline_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    assert open_checkpoint(NAME, None).revision == COMMIT
    with pytest.raises(CheckpointError, match="hub cannot be reached"):
        open_checkpoint("somebody/other", None)


@pytest.mark.parametrize(
    ("name", "revision"), [("somebody/other", None), (NAME, "v2"), (NAME, "f" * 40)]
)
def test_a_checkpoint_missing_from_the_cache_is_reported(
    offline_cache: Path, name: str, revision: str | None
) -> None:
    with pytest.raises(CheckpointError, match=r"not in this machine's cache.*HF_HUB_OFFLINE"):
        open_checkpoint(name, revision)


def test_a_name_that_is_invalid_on_the_hub_is_refused(offline_cache: Path) -> None:
    with pytest.raises(CheckpointError, match="neither a folder nor a name on the hub"):
        open_checkpoint("some body/what?")


@pytest.mark.parametrize("source", ["missing", "./missing/model", "/missing/model", "~/missing"])
def test_a_missing_folder_is_reported(source: str) -> None:
    with pytest.raises(CheckpointError, match=f"There is no folder {source}"):
        open_checkpoint(source)


def test_a_folder_has_no_revision(tiny: Path) -> None:
    with pytest.raises(CheckpointError, match="has no revision v2"):
        open_checkpoint(str(tiny), "v2")


def test_the_identity_of_a_folder_depends_on_its_contents(tiny: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(tiny, tmp_path / "copy")
    first = open_checkpoint(str(tiny))
    assert first.revision is None
    assert first.identity.startswith("sha256:")
    assert open_checkpoint(str(copy)).identity == first.identity
    other = checkpoints.save_vjepa2(tmp_path / "other", seed=1)
    assert open_checkpoint(str(other)).identity != first.identity
    (copy / "chat_template.jinja").write_text("{{ messages }}")
    assert open_checkpoint(str(copy)).identity != first.identity


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"model_type": "vit"}, "a model of type 'vit', not 'vjepa2'"),
        ({"model_type": None}, "a model of type None"),
        ({"crop_size": 65}, "crop_size 65 is not a multiple of patch_size 16"),
        ({"num_attention_heads": 5}, "does not split into 5 attention heads"),
        ({"hidden_act": "relu"}, "hidden_act 'relu'"),
        ({"in_chans": 1}, "in_chans 1"),
        ({"crop_size": "large"}, "crop_size"),
    ],
)
def test_other_architectures_are_refused(
    tiny: Path, tmp_path: Path, changes: dict[str, object], message: str
) -> None:
    values = json.loads((tiny / "config.json").read_text("utf-8"))
    (tmp_path / "config.json").write_text(json.dumps({**values, **changes}), "utf-8")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(tmp_path))


@pytest.mark.parametrize(
    ("text", "message"), [("{", "cannot be read as JSON"), ("[]", "does not contain a JSON object")]
)
def test_a_damaged_config_is_reported(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(CheckpointError, match=message):
        open_checkpoint(str(tmp_path))


def test_a_folder_without_config_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"has no config\.json"):
        open_checkpoint(str(tmp_path))


def test_pickles_are_never_read(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    torch.save(checkpoints.make_vjepa2().state_dict(), tmp_path / "pytorch_model.bin")
    with pytest.raises(CheckpointError, match="from safetensors only"):
        open_checkpoint(str(tmp_path)).weights()


def test_truncated_weights_are_reported(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    whole = (tiny / "model.safetensors").read_bytes()
    (tmp_path / "model.safetensors").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(CheckpointError, match="Cannot read the weights"):
        open_checkpoint(str(tmp_path)).weights()


def test_a_shard_outside_the_folder_is_not_read(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    index = {"weight_map": {"encoder.layernorm.weight": "../../secret.safetensors"}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index), "utf-8")
    with pytest.raises(CheckpointError, match=r"has no secret\.safetensors"):
        open_checkpoint(str(tmp_path)).weights()


def test_weights_of_another_model_are_refused(tiny: Path, tmp_path: Path) -> None:
    shutil.copy(tiny / "config.json", tmp_path)
    save_file({"head.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="no weights of a V-JEPA 2 encoder"):
        open_checkpoint(str(tmp_path)).weights()
