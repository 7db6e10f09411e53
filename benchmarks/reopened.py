"""Export the specimens of a project in every format, reopen each file, and print what comes back.

    python benchmarks/reopened.py PROJECT [FOLDER]

Meshes are read by trimesh; NRRD and NIfTI by vtk, where it is installed.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
import trimesh

from napari_fossiledit.params.reconstruct import MeshParams
from napari_fossiledit.workflows.reef import export, mesh

_UM = {"um": 1.0, "mm": 1e3, "m": 1e6, "micron": 1.0, "millimeter": 1e3, "meters": 1e6}


def reopened(path: Path) -> tuple[trimesh.Trimesh, str]:
    """Return the meshes of a scene as one, and the unit that trimesh makes of the file."""
    if path.suffix == ".vaxml":
        files = sorted(path.with_name(f"{path.stem}_stl").iterdir())
        return trimesh.util.concatenate([trimesh.load(file) for file in files]), ""
    scene = trimesh.load_scene(path)
    return trimesh.util.concatenate(scene.dump()), scene.units or ""


def main(project: Path, folder: Path) -> None:
    """Print a table of scenes and one of label volumes."""
    model = mesh.in_memory(project, MeshParams())
    expected = sum(row.mesh_volume_um3 or 0 for row in model.rows)
    corners = np.concatenate([m.vertices for m in model.meshes])[:, ::-1]
    print("| file | MB | unit stated | volume off | corners off (um) | closed |")
    print("|---|---|---|---|---|---|")
    for suffix in export.SCENES:
        for unit in ("um", "mm"):
            path = folder / f"reef-{unit}{suffix}"
            wrote = export.run(project, path, MeshParams(unit=unit)).unit
            read, stated = reopened(path)
            um = _UM[stated or wrote]
            off = read.volume * um**3 / expected - 1
            far = np.abs(read.bounds * um - [corners.min(axis=0), corners.max(axis=0)]).max()
            read.merge_vertices()
            size = path.stat().st_size / 1e6
            print(
                f"| `{suffix}`, {unit} | {size:.1f} | {stated or f'{wrote} (text)'} | {off:.1e} |"
                f" {far:.3f} | {read.is_watertight} |"
            )
    try:
        import vtk
        from vtk.util.numpy_support import vtk_to_numpy
    except ImportError:
        return
    export.run(project, folder / "reef.tif", MeshParams())
    import tifffile

    truth = tifffile.imread(folder / "reef.tif")
    for suffix in (".nrrd", ".nii", ".nii.gz"):
        path = folder / f"reef{suffix}"
        export.run(project, path, MeshParams())
        reader = vtk.vtkNrrdReader() if suffix == ".nrrd" else vtk.vtkNIFTIImageReader()
        reader.SetFileName(str(path))
        reader.Update()
        image = reader.GetOutput()
        labels = vtk_to_numpy(image.GetPointData().GetScalars())
        same = np.array_equal(labels.reshape(image.GetDimensions()[::-1]), truth)
        print(suffix, path.stat().st_size, "bytes, the same labels:", same, image.GetSpacing())


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        main(Path(sys.argv[1]), Path(sys.argv[2] if len(sys.argv) > 2 else temporary))
