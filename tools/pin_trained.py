"""Put an exported model into the package and print what pins it in ``extending/trained.py``.

    python tools/pin_trained.py FOLDER [NAME]

FOLDER is what ``geoembed export RUN -o FOLDER --dtype float16`` wrote.
"""

import json
import shutil
import sys
from pathlib import Path

from geoembed import weights

TRAINED = Path(__file__).parents[1] / "geoembed" / "trained"


def main(source: Path, name: str) -> None:
    """Copy the folder's files and print the constants."""
    folder = weights.read_model_folder(source)
    tensors = folder.tensors()
    target = TRAINED / name
    target.mkdir(parents=True, exist_ok=True)
    for file in ("config.json", "model.safetensors", "README.md"):
        shutil.copyfile(source / file, target / file)
    digests = {"model.safetensors": weights.digest_tensors(tensors)}
    print("_FILES: Final = (")
    for role, file in (("config", "config.json"), ("model", "model.safetensors")):
        path = target / file
        print("    WeightsFile(")
        print(f'        role="{role}",')
        print(f'        path=f"{{_FOLDER}}/{file}",')
        print(f"        size={path.stat().st_size:_},")
        print(f'        sha256="{weights.digest_file(path)}",')
        if file in digests:
            print(f'        tensors_sha256="{digests[file]}",')
        print("    ),")
    print(")")
    config = json.loads((target / "config.json").read_text(encoding="utf-8"))
    print(f"_DIMENSION: Final = {config['location']['output']}")
    fields = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in config["image"]["preprocessing"].items()
    }
    shown = ", ".join(f"{key}={value!r}" for key, value in fields.items())
    print(f"_PREPROCESSING: Final = Preprocessing({shown})")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2] if len(sys.argv) > 2 else "bluemarble.v1")
