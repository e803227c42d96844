"""Write the golden vectors of ``geoclip.v1``: the published network in float64, by hand.

Runs the published capsules (package geoclip) in float64 on points projected by PROJ, so that no
line of geoembed's encoder takes part. Run it again only when the weights change.
"""

import json
from pathlib import Path

import numpy as np
import pyproj
import torch
from geoclip import LocationEncoder

from geoembed.extending.builtin import GEOCLIP_V1_WEIGHTS

TARGET = Path(__file__).parents[1] / "geoembed" / "extending" / "golden" / "geoclip.v1.json"

# New York, Paris, Tokyo, La Paz, Suva, McMurdo, the origin, a pole, both sides of the seam.
LON = [-74.006, 2.3522, 139.6917, -68.15, 178.4419, 166.6683, 0.0, 0.0, 180.0, -180.0]
LAT = [40.7128, 48.8566, 35.6895, -16.5, -18.1416, -77.8419, 0.0, 90.0, 52.0, 52.0]


def main() -> None:
    """Compute and write."""
    project = pyproj.Transformer.from_pipeline(
        "+proj=pipeline +step +proj=unitconvert +xy_in=deg +xy_out=rad +step +proj=eqearth +R=1"
    )
    points = np.column_stack(project.transform(LON, LAT)) * (66.50336 / 180.0)
    encoder = LocationEncoder().double().eval()
    with torch.inference_mode():
        vectors = sum(
            getattr(encoder, f"LocEnc{i}")(torch.from_numpy(points)) for i in range(encoder.n)
        )
    golden = {
        "made_by": "tools/make_golden.py: published capsules in float64 on PROJ's Equal Earth",
        "weights_sha256": GEOCLIP_V1_WEIGHTS.file("location_encoder").tensors_sha256,
        "lon": LON,
        "lat": LAT,
        "vectors": [[float(f"{value:.13g}") for value in row] for row in vectors.tolist()],
    }
    TARGET.parent.mkdir(exist_ok=True)
    TARGET.write_text(json.dumps(golden) + "\n", encoding="utf-8")
    print(f"wrote {TARGET.name}: {len(LON)} vectors")


if __name__ == "__main__":
    main()
