"""Image encoders by name: options, finding weights, texts, pictures, caching, pickles."""

import copy
import hashlib
import pickle
import runpy
import subprocess
import sys
from dataclasses import replace

import huggingface_hub
import numpy as np
import open_clip
import pytest
import torch
from PIL import Image

from geoembed import weights
from geoembed.errors import (
    MissingExtraError,
    MissingWeightsError,
    OfflineError,
    OptionError,
    PictureError,
    PluginError,
    UnknownNameError,
    WeightsError,
)
from geoembed.extending import hookimpl
from geoembed.extending.image_specs import ImageEncoderSpec, Preprocessing
from geoembed.extending.registry import image_encoder_spec
from geoembed.images import ImageEmbeddings, ImageEncoder, finding, list_image_encoders
from geoembed.images import load_image_encoder as load
from geoembed.images.finding import find_clip
from geoembed.images.hub import hub_cache
from geoembed.images.preprocessing import prepare
from geoembed.images.running import run_pictures
from geoembed.images.texts import tokenize
from geoembed.images.views import make_views
from geoembed.testing import (
    check_image_encoder,
    check_light_import,
    isolated_plugins,
    tiny_clip_spec,
    write_tiny_clip,
)

SPEC = tiny_clip_spec()
GEOCLIP = image_encoder_spec("geoclip.v1")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_tiny_clip(tmp_path_factory.mktemp("clip"))


@pytest.fixture(scope="module")
def encoder(folder):
    return load(SPEC, weights=folder, device="cpu")


@pytest.fixture(scope="module")
def pixels():
    return torch.randn(3, 3, 224, 224, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="module")
def photos():
    random = np.random.default_rng(0)
    return [
        Image.fromarray(random.integers(0, 256, (h, w, 3), np.uint8))
        for h, w in ((240, 320), (300, 230), (224, 224), (500, 260), (260, 270))
    ]


@pytest.fixture
def no_clip(tmp_path, monkeypatch):
    """A home and caches without any CLIP."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    return tmp_path


# The contract.


def test_it_keeps_the_contract(encoder):
    check_image_encoder(encoder)


def test_names(encoder):
    assert list_image_encoders("geo*") == ["geoclip.v1"]
    assert (encoder.name, encoder.dimension) == ("geoclip.tiny", 512)
    assert encoder.location_encoder == "geoclip.v1"
    assert encoder.preprocessing.size == 224
    assert encoder.logit_scale == pytest.approx(39.69, abs=0.01)
    assert repr(encoder) == "<ClipImageEncoder geoclip.tiny (512 values; float32 on cpu)>"
    with pytest.raises(UnknownNameError, match="no image encoder named 'geoclip.v2'. Close"):
        load("geoclip.v2")


def test_importing_and_listing_is_light():
    check_light_import("geoembed.images")
    code = (
        "import sys, geoembed.images as i; i.list_image_encoders(); "
        "print({'torch', 'PIL', 'open_clip'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


# Vectors.


def test_the_head_is_applied_to_the_projected_feature(encoder, pixels):
    tensors = weights.load_tensors(GEOCLIP.weights, "image_mlp")
    with torch.inference_mode():
        features = encoder.network(pixels)
        hidden = torch.relu(features @ tensors["0.weight"].t() + tensors["0.bias"])
        expected = (hidden @ tensors["2.weight"].t() + tensors["2.bias"]).numpy()
    np.testing.assert_allclose(encoder.encode_pixels(pixels), expected, rtol=1e-4, atol=1e-6)


def test_vectors_of_pictures_are_normalised_features_of_prepared_pixels(encoder, photos):
    prepared = torch.stack([prepare(photo, encoder.preprocessing) for photo in photos])
    features = encoder.encode_pixels(prepared).astype(np.float64)
    expected = features / np.linalg.norm(features, axis=1, keepdims=True)
    got = encoder.encode_images(photos, progress=False)
    np.testing.assert_allclose(got.vectors, expected, atol=1e-6)
    assert got.errors == [""] * 5
    assert got.vectors.dtype == np.float32


@pytest.mark.parametrize("tta", ["five", "ten-crop"])
def test_views_are_averaged_as_the_protocol_says(encoder, photos, tta):
    got = encoder.encode_images(photos[:2], tta=tta, progress=False)
    for photo, vector in zip(photos, got.vectors, strict=False):
        features = encoder.encode_pixels(make_views(photo, encoder.preprocessing, tta))
        units = features / np.linalg.norm(features, axis=1, keepdims=True)
        np.testing.assert_allclose(vector, units.mean(axis=0), atol=1e-6)
        # Its dot product with a unit vector is the mean of the cosines: not normalised again.
        assert np.linalg.norm(vector) < 1.0


@pytest.mark.parametrize("batch_size", [1, 2, 7])
@pytest.mark.parametrize("workers", [0, 3])
def test_bad_pictures_stay_in_their_rows_in_batches_of_any_size(
    encoder, photos, batch_size, workers, tmp_path
):
    photos[0].save(tmp_path / "good.png")
    (tmp_path / "bad.jpg").write_bytes(b"no picture at all")
    source = [
        tmp_path / "bad.jpg",
        tmp_path / "good.png",
        photos[1],
        tmp_path / "missing.jpg",
        photos[2],
        b"",
    ]
    got = encoder.encode_images(source, batch_size=batch_size, workers=workers, progress=False)
    assert got.good.tolist() == [False, True, True, False, True, False]
    assert np.isnan(got.vectors).all(axis=1).tolist() == [not good for good in got.good]
    assert got.errors[3] == "There is no such file."
    assert [name.rpartition("/")[2] for name in got.names[:2]] == ["bad.jpg", "good.png"]
    expected = encoder.encode_images(photos[:3], progress=False).vectors
    np.testing.assert_allclose(got.vectors[got.good], expected, atol=1e-6)


def test_the_batch_size_is_what_the_tower_sees(encoder, photos, monkeypatch):
    seen = []
    plain = encoder._encode_pixels
    monkeypatch.setattr(
        encoder, "_encode_pixels", lambda pixels: (seen.append(len(pixels)), plain(pixels))[1]
    )
    encoder.encode_images(photos[:3], tta="ten-crop", batch_size=4, progress=False)
    # Ten views of one picture after the other, four at a time.
    assert seen == [4, 4, 2] * 3
    seen.clear()
    encoder.encode_images(photos, batch_size=4, progress=False)
    assert seen == [4, 1]
    with pytest.raises(OptionError, match="batch_size=2.5 is no whole number"):
        encoder.encode_pixels(torch.zeros(1, 3, 224, 224), batch_size=2.5)


def test_streams_are_not_read_to_their_end(encoder, photos):
    taken = []

    def endless():
        while True:
            taken.append(len(taken))
            yield photos[len(taken) % 5]

    batches = encoder.iterate_images(endless(), batch_size=2, workers=2, progress=False)
    first, second = next(batches), next(batches)
    batches.close()
    assert (len(first), len(second)) == (2, 2)
    assert len(taken) < 15
    joined = ImageEmbeddings.joined([first, second], 512)
    assert joined.names == [f"picture {i}" for i in range(4)]


def test_progress_knows_how_many_there_are(encoder, photos, capsys):
    encoder.encode_images(photos, batch_size=2, progress=True)
    assert "5.00/5.00" in capsys.readouterr().err
    encoder.encode_images(photos, progress=False)
    assert capsys.readouterr().err == ""


@pytest.mark.shared
def test_every_real_photograph_goes_through(encoder, shared_data):
    # 108 photographs, and 8 originals with odd EXIF.
    got = encoder.encode_images(shared_data / "photos_world", recursive=True, progress=False)
    assert got.errors == [""] * 116
    np.testing.assert_allclose(np.linalg.norm(got.vectors, axis=1), 1.0, atol=1e-5)


def test_no_pictures_at_all(encoder, tmp_path):
    empty = encoder.encode_images([], progress=False)
    assert (len(empty), empty.vectors.shape, empty.good.tolist()) == (0, (0, 512), [])
    with pytest.raises(PictureError, match="no picture"):
        encoder.encode_images(tmp_path, progress=False)


def test_pictures_that_are_all_bad_need_no_tower(encoder):
    got = encoder.encode_images([b"x", b"y"], progress=False)
    assert got.good.tolist() == [False, False]


def test_a_view_that_fails_is_a_row_with_an_error(encoder, photos, monkeypatch):
    def fail(image, *rest):
        if image.size == photos[1].size:
            raise MemoryError("too large")
        return make_views(image, *rest)

    monkeypatch.setattr("geoembed.images.running.make_views", fail)
    got = encoder.encode_images(photos[:3], progress=False)
    assert got.errors == ["", "It cannot be prepared: too large", ""]


def test_vectors_that_are_not_finite_are_errors(encoder, photos):
    class Overflowing(ImageEncoder):
        weights_sha256 = ""

        def _encode_pixels(self, pixels):
            out = pixels.mean(dim=(2, 3))
            out[1] = torch.inf
            return out

    spec = ImageEncoderSpec(
        name="over.flow",
        factory="m:f",
        dimension=3,
        preprocessing=GEOCLIP.preprocessing,
        summary="Overflows",
    )
    (got,) = run_pictures(Overflowing(spec, device="cpu"), photos[:3], progress=False)
    assert got.good.tolist() == [True, False, True]
    assert got.errors[1] == "The encoder gave values that are not finite (float32)."


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tta": "eleven"}, "tta='eleven'"),
        ({"batch_size": 0}, "batch_size=0 is no whole number"),
        ({"batch_size": True}, "batch_size=True is no whole number"),
        ({"workers": -1}, "workers=-1"),
        ({"max_pixels": 0}, "max_pixels=0"),
    ],
)
def test_options_of_a_run_are_checked_at_once(encoder, photos, options, message):
    with pytest.raises(OptionError, match=message):
        encoder.iterate_images(photos, **options)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (torch.zeros(2, 3, 224, 225), r"shape \(2, 3, 224, 225\), expected \(n, 3, 224, 224\)"),
        (torch.zeros(3, 224, 224), r"shape \(3, 224, 224\), expected"),
        (torch.zeros(1, 3, 224, 224, dtype=torch.uint8), "pixels are torch.uint8, expected prep"),
        (torch.full((2, 3, 224, 224), torch.nan), "not finite in 2 of 2 rows, such as 0, 1"),
    ],
)
def test_pixels_that_do_not_fit_are_refused(encoder, wrong, message):
    with pytest.raises(OptionError, match=message):
        encoder.encode_pixels(wrong)


def test_autocast_of_the_caller_changes_nothing(encoder, pixels):
    plain = encoder.encode_pixels(pixels)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        np.testing.assert_array_equal(encoder.encode_pixels(pixels), plain)


# Precisions and layouts.


@pytest.mark.parametrize(
    ("options", "cosine"),
    [
        ({"precision": "bfloat16"}, 0.9995),
        ({"precision": "float16"}, 0.99999),
        ({"channels_last": True}, 0.9999999),
    ],
)
def test_options_that_change_rounding_only(encoder, folder, pixels, options, cosine):
    other = load(SPEC, weights=folder, device="cpu", **options)
    one, two = (e.encode_pixels(pixels).astype(np.float64) for e in (encoder, other))
    cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() >= cosine
    texts = ["a fjord", "a desert road"]
    one, two = (e.encode_text(texts).astype(np.float64) for e in (encoder, other))
    cosines = (one * two).sum(1) / np.linalg.norm(one, axis=1) / np.linalg.norm(two, axis=1)
    assert cosines.min() >= cosine
    # The digest is of the weights as they lie in their file, whatever they are rounded to.
    assert other.weights_sha256 == encoder.weights_sha256


def test_the_head_stays_in_float32(folder, pixels):
    half = load(SPEC, weights=folder, device="cpu", precision="bfloat16")
    got = half.encode_pixels(pixels)
    # Rounded to bfloat16 the low 16 bits would be zero.
    assert (got.view(np.uint32) & 0xFFFF).any()
    assert {p.dtype for p in half.network.parameters()} == {torch.bfloat16, torch.float32}


def test_compiling(encoder, folder, pixels, monkeypatch):
    # What torch.compile is given and gives is enough here; the compiler itself takes a minute.
    compiled = []
    monkeypatch.setattr(torch, "compile", lambda module: (compiled.append(module), module)[1])
    got = load(SPEC, weights=folder, device="cpu", compile=True)
    np.testing.assert_array_equal(got.encode_pixels(pixels), encoder.encode_pixels(pixels))
    assert compiled == [got.network]


def test_a_compiler_that_is_missing_is_said(folder, pixels, monkeypatch, tmp_path):
    def fail(_):
        raise torch._dynamo.exc.TorchDynamoException("No working C++ compiler found\nand more")

    monkeypatch.setattr(torch, "compile", lambda module: fail)
    other = load(SPEC, weights=write_tiny_clip(tmp_path), device="cpu", compile=True)
    with pytest.raises(OptionError, match="cannot compile the tower here .No working C.. compiler"):
        other.encode_pixels(pixels)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"precision": "float64"}, "precision='float64' is not one of: float32, bfloat16"),
        ({"device": "quantum"}, "device='quantum' is not a device"),
        ({"compile": "yes"}, "compile='yes' is not True or False"),
        ({"channels_last": 1}, "channels_last=1 is not True or False"),
        ({"allow_download": None}, "allow_download=None is not True or False"),
        ({"weights": ""}, "weights='' is no path of a file or folder"),
        ({"weights": 3}, "weights=3 is no path of a file or folder"),
    ],
)
def test_options_are_checked(folder, options, message):
    with pytest.raises(OptionError, match=message):
        load(SPEC, **{"weights": folder, **options})


def test_what_is_no_encoder_is_refused(encoder):
    assert load(encoder) is encoder
    with pytest.raises(OptionError, match="is loaded already and takes no further options: pre"):
        load(encoder, precision="float16")
    with pytest.raises(OptionError, match="encoder=3 is no name and no spec"):
        load(3)
    with pytest.raises(OptionError, match="Unknown option of an image encoder: colour"):
        type(encoder)(SPEC, colour="red")


# Texts.


def test_texts_go_through_the_same_head(encoder):
    texts = ["a fjord in winter", "a desert road", "A  DESERT\nroad"]
    got = encoder.encode_text(texts)
    assert got.shape == (3, 512)
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got[1], got[2])
    assert np.abs(got[0] - got[1]).max() > 1e-3
    np.testing.assert_allclose(encoder.encode_text("a desert road")[0], got[1], atol=1e-6)
    assert encoder.encode_text([]).shape == (0, 512)


def test_many_texts_are_computed_in_blocks(encoder):
    texts = [f"house number {i}" for i in range(20)]
    got = encoder.encode_text(texts)
    np.testing.assert_allclose(got[17], encoder.encode_text(texts[17])[0], atol=1e-6)


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (["good", ""], r"texts\[1\] is empty"),
        ([" \n"], r"texts\[0\] is empty"),
        (["good", 3], r"texts\[1\] is int, expected text"),
        (["house " * 76], r"texts\[0\], 'house .*\.\.\.', has 78 tokens .* CLIP reads 77"),
        (["a <end_of_text> b"], r"texts\[0\], .*spells CLIP's mark"),
    ],
)
def test_texts_that_cannot_be_read_are_refused(encoder, texts, message):
    with pytest.raises(OptionError, match=message):
        encoder.encode_text(texts)


def test_the_longest_text_fits(encoder):
    tokens = tokenize("house " * 75)
    assert (tokens[0] != 0).all()
    assert np.isfinite(encoder.encode_text("house " * 75)).all()


def test_encoders_that_read_no_texts_say_so(folder):
    blind = load(replace(SPEC, reads_text=False), weights=folder, device="cpu")
    with pytest.raises(OptionError, match="'geoclip.tiny' reads no texts"):
        blind.encode_text(["a fjord"])


# Plain CLIPs, pickles, caching.


def test_a_clip_without_a_head(folder, pixels):
    plain = replace(SPEC, name="clip.tiny", weights=None, dimension=768, location_encoder="")
    encoder = load(plain, weights=folder, device="cpu")
    with torch.inference_mode():
        expected = encoder.network(pixels).numpy()
    np.testing.assert_array_equal(encoder.encode_pixels(pixels), expected)
    # Its own temperature: what open_clip starts from.
    assert encoder.logit_scale == pytest.approx(1 / 0.07)
    assert encoder.weights_sha256 != load(SPEC, weights=folder).weights_sha256
    check_image_encoder(encoder)


def test_towers_are_shared(encoder, folder):
    again = load(SPEC, weights=str(folder), device="cpu")
    assert again.network is encoder.network
    assert load(SPEC, weights=folder, device="cpu", precision="bfloat16").network is not (
        encoder.network
    )
    assert copy.deepcopy(encoder) is encoder
    assert copy.copy(encoder) is encoder


def test_pickles_carry_the_recipe(encoder, folder, pixels, monkeypatch):
    content = pickle.dumps(encoder)
    assert len(content) < 10_000
    again = pickle.loads(content)
    np.testing.assert_array_equal(again.encode_pixels(pixels), encoder.encode_pixels(pixels))
    # One that is registered goes by its name; a relative path was made absolute.
    monkeypatch.chdir(folder.parent)
    relative = load(SPEC, weights=folder.name, device="cpu")
    monkeypatch.chdir("/")

    class Plugin:
        @hookimpl
        def register_image_encoders(self, register):
            register(SPEC)

    with isolated_plugins(Plugin()):
        content = pickle.dumps(relative)
        assert b"ImageEncoderSpec" not in content
        assert pickle.loads(content).network is encoder.network
    with isolated_plugins(), pytest.raises(UnknownNameError, match="'geoclip.tiny'"):
        pickle.loads(content)


def test_the_digest_is_made_once(encoder, monkeypatch):
    digest = encoder.weights_sha256
    assert len(digest) == 64
    seen = []
    plain = weights.digest_tensors
    monkeypatch.setattr(weights, "digest_tensors", lambda t: (seen.append(len(t)), plain(t))[1])
    assert encoder.weights_sha256 == digest
    # Of the head alone, 4 tensors, to know it again.
    assert seen == [4]


def test_a_factory_that_gives_something_else_is_named():
    spec = replace(SPEC, factory="unittest.mock:Mock")
    with pytest.raises(PluginError, match="'geoclip.tiny' returned Mock instead of an ImageEnc"):
        load(spec)


def test_without_open_clip_the_extra_is_named(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "open_clip", None)
    with pytest.raises(MissingExtraError, match=r'pip install "geoembed\[image\]"'):
        load("geoclip.v1")


# Finding weights.


def test_what_is_missing_is_said_with_three_ways_to_get_it(no_clip):
    with pytest.raises(MissingWeightsError, match="1.7 GB") as caught:
        load("geoclip.v1")
    message = str(caught.value)
    assert str(no_clip / "hf" / "hub") in message
    for words in ("allow_download=True", "weights=PATH", "hf download openai/clip-vit-large"):
        assert words in message
    with pytest.raises(MissingWeightsError, match="'geoclip.tiny' names no published CLIP"):
        load(SPEC)


def test_offline_forbids_a_download_that_is_allowed(no_clip):
    with pytest.raises(OfflineError, match="GEOEMBED_OFFLINE is set.*weights=PATH"):
        load("geoclip.v1", allow_download=True)


def _snapshot(cache, repository, revision, *files, main=True):
    root = cache / f"models--{repository.replace('/', '--')}"
    folder = root / "snapshots" / revision
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).write_bytes(b"{}")
    if main:
        (root / "refs").mkdir(exist_ok=True)
        (root / "refs" / "main").write_text(revision, "utf-8")
    return folder


def test_caches_are_looked_in_in_order(no_clip, monkeypatch):
    hub = no_clip / "hf" / "hub"
    assert hub_cache() == hub
    bare = _snapshot(hub, "timm/vit_large_patch14_clip_224.openai", "a" * 40)
    (bare / "open_clip_model.safetensors").write_bytes(b"x")
    # What open_clip itself leaves: weights without a configuration.
    assert find_clip(GEOCLIP) == bare / "open_clip_model.safetensors"
    (bare / "open_clip_config.json").write_bytes(b"{}")
    assert find_clip(GEOCLIP) == bare
    repository = "openai/clip-vit-large-patch14"
    # Of a configuration without weights, or the reverse, nothing can be loaded.
    _snapshot(hub, repository, "b" * 40, "config.json")
    _snapshot(hub, repository, "c" * 40, "model.safetensors", main=False)
    assert find_clip(GEOCLIP) == bare
    pinned = _snapshot(hub, repository, "d" * 40, "config.json", "pytorch_model.bin", main=False)
    assert find_clip(GEOCLIP) == pinned
    main = _snapshot(hub, repository, "e" * 40, "config.json", "model.safetensors.index.json")
    assert find_clip(GEOCLIP) == main
    # A file that is named comes before all of them.
    assert find_clip(GEOCLIP, no_clip) == no_clip
    with pytest.raises(WeightsError, match="There is no file or folder"):
        find_clip(GEOCLIP, no_clip / "nowhere")
    monkeypatch.setenv("HF_HUB_CACHE", str(no_clip / "elsewhere"))
    with pytest.raises(MissingWeightsError, match="elsewhere"):
        find_clip(GEOCLIP)


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"HF_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HUGGINGFACE_HUB_CACHE": "/a", "HF_HOME": "/b"}, "/a"),
        ({"HF_HOME": "/b"}, "/b/hub"),
        ({"XDG_CACHE_HOME": "/c"}, "/c/huggingface/hub"),
        ({"HOME": "/d"}, "/d/.cache/huggingface/hub"),
    ],
)
def test_the_cache_is_where_hugging_face_has_it(variables, expected, no_clip, monkeypatch):
    monkeypatch.delenv("HF_HOME")
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    # Its own module works it out once, when it is imported: here once more.
    theirs = runpy.run_path(huggingface_hub.constants.__file__)["HF_HUB_CACHE"]
    assert str(hub_cache()) == theirs == expected


def test_openais_file_is_checked_before_it_is_opened(no_clip, monkeypatch):
    path = no_clip / ".cache" / "clip" / "ViT-L-14.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"another file")
    with pytest.raises(WeightsError, match="is not the file that OpenAI published: its SHA-256"):
        find_clip(GEOCLIP)
    config = {**open_clip.get_pretrained_cfg("ViT-L-14-quickgelu", "openai")}
    sha256 = hashlib.sha256(b"another file").hexdigest()
    config["url"] = f"https://openaipublic.example/clip/{sha256}/ViT-L-14.pt"
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *names: config)
    assert find_clip(GEOCLIP) == path


def test_a_download_is_pinned_and_checked(no_clip, monkeypatch):
    asked = []

    def fetch(repository, name, *, revision, cache_dir):
        asked.append((repository, name, revision))
        folder = _snapshot(cache_dir, repository, revision, name, main=False)
        return str(folder / name)

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fetch)
    monkeypatch.setenv("GEOEMBED_OFFLINE", "")
    with pytest.raises(WeightsError, match="is not what openai/clip-vit-large-patch14 published"):
        find_clip(GEOCLIP, allow_download=True)
    assert [name for _, name, _ in asked] == [
        *("config.json", "preprocessor_config.json", "model.safetensors")
    ]
    assert {revision for *_, revision in asked} == {"32bd64288804d66eefd0ccbe215aa642df71cc41"}
    for published in finding._PUBLISHED.values():
        assert len(published.revision) == 40
    right = hashlib.sha256(b"{}").hexdigest()
    key = ("ViT-L-14-quickgelu", "openai")
    monkeypatch.setitem(
        finding._PUBLISHED, key, replace(finding._PUBLISHED[key], weights_sha256=right)
    )
    for path in hub_cache().rglob("*.*"):
        if path.is_file():
            path.unlink()
    assert find_clip(GEOCLIP, allow_download=True).name == asked[0][2]
    # Nothing is fetched again that is there.
    assert len(asked) == 6
    assert find_clip(GEOCLIP, allow_download=True).name == asked[0][2]
    assert len(asked) == 6


def test_a_download_that_fails_says_why(no_clip, monkeypatch):
    def fail(*_, **__):
        raise ConnectionError("no route to host\nand more")

    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    monkeypatch.setenv("GEOEMBED_OFFLINE", "0")
    with pytest.raises(WeightsError, match="could not be downloaded: ConnectionError: no route to"):
        find_clip(GEOCLIP, allow_download=True)
    old = replace(GEOCLIP, architecture="ViT-L-14", pretrained="laion400m_e31")
    monkeypatch.setattr(open_clip, "get_pretrained_cfg", lambda *names: {"url": "elsewhere"})
    with pytest.raises(WeightsError, match="lie on no hub"):
        find_clip(old, allow_download=True)


def test_an_architecture_with_the_wrong_activation_for_its_weights_is_refused(no_clip):
    wrong = replace(GEOCLIP, architecture="ViT-L-14")
    with pytest.raises(
        OptionError, match="'ViT-L-14', which computes with GELU, .* with QuickGELU"
    ):
        find_clip(wrong)
    with pytest.raises(OptionError, match="knows no weights 'mine' of 'ViT-L-14'"):
        find_clip(replace(wrong, pretrained="mine"))


def test_broken_contracts_of_plugins_are_named(photos):
    class Wrong(ImageEncoder):
        weights_sha256 = ""

        def _encode_pixels(self, pixels):
            return pixels.mean(dim=(1, 2, 3))

    spec = ImageEncoderSpec(
        name="wrong.shape",
        factory="m:f",
        dimension=2,
        preprocessing=Preprocessing(size=8, mean=(0.0,) * 3, std=(1.0,) * 3),
        summary="Gives one number",
    )
    with pytest.raises(PluginError, match=r"'wrong.shape' \(Wrong\) returned .*expected a tensor"):
        Wrong(spec, device="cpu").encode_images(photos, progress=False)
    with pytest.raises(AssertionError, match="'wrong.shape'"):
        check_image_encoder(Wrong(spec, device="cpu"))
    with pytest.raises(OptionError, match="'wrong.shape' offers float32"):
        Wrong(spec, precision="float16")
