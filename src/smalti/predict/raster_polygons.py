"""Regions of a label GeoTIFF as polygons: GeoJSON in longitude and latitude, GeoPackage in the raster's coordinates."""

import importlib.util
import itertools
import json
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

import numpy as np

from smalti.files import replacing
from smalti.labels import LabelSet
from smalti.predict.gdal import gdal_errors, reading

PACKAGES = ("rasterio", "pyogrio", "shapely")
BATCH = 10_000
"""Regions that are transformed and written together."""
LONGEST_EDGE = 256
"""Pixels of an edge at most, before it is transformed: a straight line in the raster is bent in longitude, latitude."""
DECIMALS = 9
"""Of degrees: a tenth of a millimetre."""
LONGITUDE_LATITUDE = "OGC:CRS84"


def require_vector_packages() -> None:
    """Asked before a raster is predicted.

    Raises:
        ValueError: If a package for polygons of rasters is missing.
    """
    missing = [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    if missing:
        raise ValueError(f'polygons of rasters need {" and ".join(missing)}: pip install "smalti[geo]"')


def write_raster_polygons(written: Path, geojson: Path, labels: LabelSet) -> tuple[list[Path], str | None]:
    """Writes a feature for each region of a label GeoTIFF: pixels of a class that are neighbours by their sides.

    Properties: `class`, `category_id` (the class table's file id) and `area` (pixels). The GeoJSON is in longitude and
    latitude (RFC 7946), the GeoPackage beside it (.gpkg) in the raster's own coordinates. A raster without a coordinate
    system gets a GeoJSON in pixels and no GeoPackage. All regions of a raster are held in memory as polygons; its
    pixels are not.

    Returns:
        The files, and why the polygons are in pixels (None if they are not).

    Raises:
        OSError: If a file cannot be written.
        DataError: If the label GeoTIFF cannot be read; names the file.
        ValueError: If the raster's coordinates cannot be brought to longitude and latitude.
    """
    geopackage = geojson.with_suffix(".gpkg")
    with reading(written) as source, ExitStack() as stack:
        is_placed = source.crs is not None and not source.transform.is_identity
        writers: list[_GeoJson | _GeoPackage] = [
            stack.enter_context(_writing_geojson(geojson, source, is_placed)),
            *([stack.enter_context(_writing_geopackage(geopackage, source))] if is_placed else []),
        ]
        for batch in _batches(source, is_placed, labels):
            for writer in writers:
                writer.add(batch)
        has_points = bool(source.gcps[0] or source.rpcs)
    if is_placed:
        return [geojson, geopackage], None
    reason = "control points or RPCs in place of a transform" if has_points else "no coordinate system"
    return [geojson], f"the raster has {reason}: its polygons are in pixels, x to the right, y down"


@dataclass(frozen=True, kw_only=True)
class _Batch:
    """Regions: polygons in map coordinates (in pixels, if the raster has none), and the properties of each."""

    shapes: np.ndarray
    names: Sequence[str]
    ids: Sequence[int]
    areas: Sequence[int]


def _batches(source: Any, is_placed: bool, labels: LabelSet) -> Iterator[_Batch]:
    """GDAL reads the band row by row, and gives polygons in map coordinates, by the transform of the raster."""
    import rasterio.features  # noqa: PLC0415  # optional, as shapely is
    import shapely  # noqa: PLC0415

    names = dict(zip(labels.ids, labels.names, strict=True))
    regions = rasterio.features.shapes(rasterio.band(source, 1), connectivity=4)
    of_classes = ((shape, int(value)) for shape, value in regions if int(value) in names)
    while batch := list(itertools.islice(of_classes, BATCH)):
        shapes = np.array([shapely.geometry.shape(shape) for shape, _ in batch], object)
        ids = [value for _, value in batch]
        areas = (shapely.area(shapes) / abs(source.transform.determinant)).round().astype(int).tolist()
        if not is_placed:
            shapes = _moved(shapes, ~source.transform)
        yield _Batch(shapes=shapes, names=[names[value] for value in ids], ids=ids, areas=areas)


@dataclass
class _GeoJson:
    file: TextIO
    source: Any
    is_placed: bool
    separator: str = ""

    def add(self, batch: _Batch) -> None:
        """Writes a line for each region."""
        for shape, name, number, area in zip(
            self._geometries(batch.shapes), batch.names, batch.ids, batch.areas, strict=True
        ):
            properties = {"class": name, "category_id": number, "area": area}
            feature = {"type": "Feature", "geometry": shape, "properties": properties}
            self.file.write(f"{self.separator}\n{json.dumps(feature, ensure_ascii=False)}")
            self.separator = ","

    def _geometries(self, shapes: np.ndarray) -> list[dict[str, Any]]:
        import shapely  # noqa: PLC0415

        if self.is_placed:
            longest = LONGEST_EDGE * abs(self.source.transform.determinant) ** 0.5
            shapes = _in_longitude_latitude(shapely.segmentize(shapes, longest), self.source.crs)
        return [shape.__geo_interface__ for shape in shapely.orient_polygons(shapes)]


@contextmanager
def _writing_geojson(out: Path, source: Any, is_placed: bool) -> Iterator[_GeoJson]:
    said = "longitude and latitude, WGS 84 (RFC 7946)" if is_placed else (
        "pixels: x to the right, y down, (0, 0) is the upper left corner of the picture"
    )  # fmt: skip
    described = json.dumps({"coordinates": said, "height": source.height, "width": source.width})
    with replacing(out) as part, part.open("w", encoding="utf-8") as file:
        file.write(f'{{"type": "FeatureCollection", "properties": {described}, "features": [')
        yield _GeoJson(file, source, is_placed)
        file.write("\n]}\n")


@dataclass
class _GeoPackage:
    path: Path
    source: Any
    layer: str
    count: int = field(default=-1)

    def add(self, batch: _Batch) -> None:
        """Appends the regions; the first call makes the file."""
        import shapely  # noqa: PLC0415
        from pyogrio import raw  # noqa: PLC0415

        raw.write(
            self.path, shapely.to_wkb(shapely.orient_polygons(batch.shapes)),
            [np.array(batch.names, object), np.array(batch.ids, np.int32), np.array(batch.areas, np.int64)],
            ["class", "category_id", "area"],
            layer=self.layer, driver="GPKG", geometry_type="Polygon", crs=self.source.crs.to_wkt(),
            append=self.count >= 0,
        )  # fmt: skip
        self.count = max(self.count, 0) + len(batch.ids)

    def check(self) -> None:
        """Raises OSError if the file is not as it was written."""
        with closing(sqlite3.connect(self.path)) as database:
            (state,) = database.execute("PRAGMA quick_check").fetchone()
            (count,) = database.execute(f'SELECT COUNT(*) FROM "{self.layer}"').fetchone()
        if state != "ok" or count != self.count:
            raise OSError(f"the GeoPackage cannot be read back ({state}, {count} of {self.count} regions)")


@contextmanager
def _writing_geopackage(out: Path, source: Any) -> Iterator[_GeoPackage]:
    """Written in a folder beside it, as GDAL wants names that end with .gpkg, and SQLite has files of its own."""
    from pyogrio.errors import DataSourceError, FeatureError  # noqa: PLC0415

    with replacing(out) as part, tempfile.TemporaryDirectory(dir=out.parent, prefix=f".{out.name}.") as folder:
        package = _GeoPackage(Path(folder) / out.name, source, "regions")
        try:
            package.add(_Batch(shapes=np.zeros(0, object), names=[], ids=[], areas=[]))
            yield package
            package.check()
        except (DataSourceError, FeatureError, sqlite3.Error) as error:
            raise OSError(f"{out}: cannot be written: {error}") from error
        package.path.replace(part)


def _in_longitude_latitude(shapes: np.ndarray, crs: Any) -> np.ndarray:
    """Polygons that cross the 180th meridian are cut there.

    Raises:
        ValueError: If there is no way from the raster's coordinates.
    """
    import shapely  # noqa: PLC0415
    from rasterio.warp import transform, transform_geom  # noqa: PLC0415

    try:
        turned = shapely.transform(
            shapes, lambda points: np.stack(transform(crs, LONGITUDE_LATITUDE, *points.T), 1).round(DECIMALS)
        )
        left, _, right, _ = shapely.bounds(turned).T
        for k in np.flatnonzero(right - left > 180).tolist():  # one by one: it takes 10 ms for each
            cut = transform_geom(crs, LONGITUDE_LATITUDE, shapes[k].__geo_interface__, precision=DECIMALS)
            turned[k] = shapely.geometry.shape(cut)
    except gdal_errors() as error:
        raise ValueError(f"the coordinates cannot be brought to longitude and latitude: {error}") from error
    placed: np.ndarray = turned
    return placed


def _moved(shapes: np.ndarray, affine: Any) -> np.ndarray:
    import shapely  # noqa: PLC0415

    a, b, c, d, e, f = affine[:6]
    turn, shift = np.array([[a, d], [b, e]]), np.array([c, f])
    moved: np.ndarray = shapely.transform(shapes, lambda points: points @ turn + shift)
    return moved
