"""Views of 3-D models from many sides, as cut-outs for rendered scenes; used by fetch.py.

A model is sampled as coloured points on its surface, which are painted far ones first: no GPU, no
window system. `trimesh` reads the models (`pip install trimesh`).
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from PIL import Image

POINTS = 250_000  # on the surface of one model
VIEW_SIDE_PX = 112
VIEWS = 12  # of one model, from all around
TEST_EVERY = 4  # each so many models of a noun are kept for test scenes
STANDING_DEGREES = (4.0, 38.0)  # how high the camera stands over what is seen from the side
LYING_DEGREES = (40.0, 90.0)  # and over what is seen from above
LIGHT = (-0.5, 0.7, 0.55)  # from the upper left, as cut-outs are drawn


@dataclass(frozen=True)
class Models:
    """The models that show one noun, as `library/name`, and how they are seen."""

    names: str
    standing: bool = True

    @property
    def paths(self) -> list[str]:
        return [
            f"{group.partition('/')[0]}/{name}"
            for group in self.names.split()
            for name in group.partition("/")[2].split(",")
        ]


LIBRARIES = {
    "cc0": "BlendSwap-CC-0",
    "by": "BlendSwap-CC-BY",
    "kator": "KatorLegaz",
    "people": "Reallusion",
    "scopia": "Scopia",
}

MODELS: dict[str, Models] = {
    "chairs": Models(
        "cc0/oakChair,plasticChair,sillaBlanca,chair,antiqueChair,chair2,osakaChair,designChair"
        " cc0/thonet by/cafe_set_mota_chair,cafe_set_tonon_chair,childChair,ella_chair_f,leaf_chair"
        " by/foldingChair,plaidChair,kitchenChair,chair3,chair4 kator/cafe-chair,dining-chair"
        " kator/office-chair scopia/silla_teca,chair3,chair4,chair,office_chair,tubular_chair"
        " scopia/plastic_chair,white_kitchen_chair,children_chair,modern_armchair"
    ),
    "sofas": Models(
        "cc0/couch,sofa2,winchesterSofa by/sofa2,sofa3,couch3 kator/futon-couch,mid-century-sofa"
        " scopia/clear_sofa,simple_sofa,beige_sofa,burlap_sofa,leather_sofa,sofa_white_beige"
    ),
    "tables": Models(
        "cc0/table by/cafe_set_mota_table,cafe_set_tonon_table,table kator/cafe-table,folding-table"
        " scopia/ext_table,black_table,coffee_table,table4,wooden_table_office,bar_table"
        " scopia/wooden_office_pear_table_rect,white_kitchen_table,table-with-leaning-feet"
        " scopia/round-table"
    ),
    "lamps": Models(
        "cc0/desklamp by/lamp scopia/desk_lamp1,desk_lamp2,little_lamp1,little_lamp2,little_lamp3"
        " scopia/table_lamp,livingroom_lamp1"
    ),
    "bottles": Models(
        "cc0/yogurtBottle,flacon by/beer_bottle kator/spray-bottle,red-wine-bottle-01"
        " scopia/wine_bottle,com_bath,com_bath2_jabon_pijo,medicoscopia_bottle2"
    ),
    "people": Models(
        "kator/female-01-casual-clothing,male-01-suit people/female01,female02,female03,male01"
        " people/male02,male03,holdingMale01,holdingFemale01,holdingFemale02,holdingFemale03"
        " people/sitFemale03,sitMale01,boySitting,boyStanding,girlSittingTable,girlStanding"
        " scopia/mannequinMale,mannequinBrunette"
    ),
    "trees": Models(
        "scopia/acacia,christmas_tree,coconutTree,copperBeech,bush,cypress,poplar,palm"
        " scopia/japaneseMaple,pine,peachBlossom,sycamoreMaple,sabalPalmeto"
    ),
    "potted plants": Models(
        "cc0/littlePlant,cactus,decorativePlant,plant by/luckyBamboo,mediumIndoorPlant,spatifilum"
        " by/yuccaPlant,decorativePlant,spider_plant scopia/maceta,ficus"
    ),
    "trucks": Models("by/dafTruck scopia/truck cc0/peterbilt scopia/van"),
    "motorcycles": Models("kator/scooter scopia/yamaha-yzr-r6,scooter2"),
    "boxes": Models("cc0/ammoBox,crate scopia/cardboard-box,open-cardboard-box"),
    "vases": Models("scopia/old_jar,vase1,vase2,vase3,jar"),
    "bags": Models("cc0/briefcase,handbag by/backpack,suitcase"),
    "horses": Models("cc0/horse2 by/horse"),
    "phones": Models("cc0/iphone by/mobile scopia/phone by/wirelessOfficePhone3", standing=False),
    "cars": Models(
        "by/fordFocus kator/concept-sedan-01v2,concept-sedan-02,VW-new-beetle scopia/seat_leon"
        " scopia/chevrolet",
        standing=False,
    ),
    "bicycles": Models("by/bike scopia/bicycle"),
    "boats": Models("by/rowboat"),
    "cups": Models("cc0/caffe_final by/coffee_cup kator/coffee-mug scopia/cup"),
    "cats": Models("by/siameseCat scopia/cat"),
    "dogs": Models("scopia/dog by/bulldog"),
    "umbrellas": Models("cc0/umbrella"),
    "stones": Models("cc0/rock1,rock2,rock3", standing=False),
}


@dataclass(frozen=True)
class Cloud:
    """A surface as points: (N, 3) positions with y up, normals, and colours 0 to 255."""

    points: np.ndarray
    normals: np.ndarray
    colours: np.ndarray


def keep_models(unpacked: Path, target: Path) -> None:
    """Render every model of `MODELS` into target/{train,test}/noun/*.png."""
    libraries = {
        short: Library(next(unpacked.rglob(f"{name}.sh3f"))) for short, name in LIBRARIES.items()
    }
    for noun, models in MODELS.items():
        for number, path in enumerate(models.paths):
            library, _, name = path.partition("/")
            part = "test" if number % TEST_EVERY == 1 else "train"
            folder = target / part / noun
            folder.mkdir(parents=True, exist_ok=True)
            cloud = libraries[library].read(name)
            for index, picture in enumerate(views(cloud, models.standing, seed=number)):
                picture.save(folder / f"{library}-{name}-{index:02d}.png")


class Library:
    """A furniture library: a ZIP of OBJ models with a catalogue of their names."""

    def __init__(self, path: Path) -> None:
        self.archive = zipfile.ZipFile(path)
        text = self.archive.read("PluginFurnitureCatalog.properties").decode("latin-1")
        entries: dict[str, dict[str, str]] = defaultdict(dict)
        for key, number, value in re.findall(r"^(\w+)#(\d+)=(.*)$", text, re.MULTILINE):
            entries[number][key] = value.strip()
        self.entries = {entry["id"].partition("#")[2]: entry for entry in entries.values()}

    def read(self, name: str) -> Cloud:
        """Read one model, with its textures, as points of its surface."""
        import trimesh

        model = PurePosixPath(self.entries[name]["model"].lstrip("/"))
        with tempfile.TemporaryDirectory() as folder:
            prefix = f"{model.parent}/"
            self.archive.extractall(
                folder, [n for n in self.archive.namelist() if n.startswith(prefix)]
            )
            scene = trimesh.load_scene(Path(folder) / model, process=False)
        return sample([mesh for mesh in scene.dump() if len(getattr(mesh, "faces", ()))])


def sample(meshes: list[Any]) -> Cloud:
    """Spread `POINTS` over the surfaces of trimesh's `meshes`; what is mostly clear is left out."""
    from trimesh.sample import sample_surface

    whole = sum(mesh.area for mesh in meshes)
    parts = []
    for mesh in meshes:
        points, faces = sample_surface(mesh, int(POINTS * mesh.area / whole) + 20, seed=1)
        colours = colours_at(mesh, points, faces)
        solid = colours[:, 3] > 100
        parts.append((points[solid], mesh.face_normals[faces][solid], colours[solid, :3]))
    return Cloud(*(np.concatenate(column) for column in zip(*parts, strict=True)))


def colours_at(mesh: Any, points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """The material's colour, or the texture's, at points on `faces` of a mesh: (N, 4)."""
    from trimesh.triangles import points_to_barycentric

    material = getattr(mesh.visual, "material", None)
    image, uv = getattr(material, "image", None), getattr(mesh.visual, "uv", None)
    if image is None or uv is None or len(uv) != len(mesh.vertices):
        diffuse = np.asarray(getattr(material, "diffuse", (200, 200, 200, 255)), float)
        return np.broadcast_to(diffuse, (len(points), 4))
    weights = np.nan_to_num(points_to_barycentric(mesh.triangles[faces], points), nan=1 / 3)
    at = (uv[mesh.faces[faces]] * weights[..., None]).sum(1)
    texture = np.asarray(image.convert("RGBA"), float)
    row = np.mod(1 - at[:, 1], 1) * (texture.shape[0] - 1)
    column = np.mod(at[:, 0], 1) * (texture.shape[1] - 1)
    return texture[np.rint(row).astype(int), np.rint(column).astype(int)]


def views(cloud: Cloud, standing: bool, seed: int) -> Iterator[Image.Image]:
    """A model from `VIEWS` sides, at heights drawn from `seed`."""
    rng = np.random.default_rng(seed)
    low, high = STANDING_DEGREES if standing else LYING_DEGREES
    width, _, depth = np.ptp(cloud.points, axis=0)
    across = 90.0 if depth > width else 0.0  # what lies is turned so that its length is across
    for number in range(VIEWS):
        around = 360 * (number + rng.uniform(-0.3, 0.3)) / VIEWS
        if not standing:
            around = across + 180 * (number % 2) + rng.normal(0, 10)
        yield paint(cloud, around, rng.uniform(low, high))


def paint(cloud: Cloud, around_degrees: float, height_degrees: float) -> Image.Image:
    """Paint a model's points, far ones first, as an RGBA picture without background."""
    a, h = np.radians(around_degrees), np.radians(height_degrees)
    turn = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    nod = np.array([[1, 0, 0], [0, np.cos(h), -np.sin(h)], [0, np.sin(h), np.cos(h)]])
    points, normals = cloud.points @ (nod @ turn).T, cloud.normals @ (nod @ turn).T
    normals = normals * np.where(normals[:, 2:] < 0, -1, 1)  # surfaces are seen from both sides
    light = np.array(LIGHT) / np.linalg.norm(LIGHT)
    shade = 0.45 + 0.75 * np.clip(normals @ light, 0, 1)
    side = 2 * VIEW_SIDE_PX
    low, high = points[:, :2].min(0), points[:, :2].max(0)
    flat = (points[:, :2] - (low + high) / 2) * (side - 6) / (high - low).max()
    x, y = np.floor(flat[:, 0] + side / 2).astype(int), np.floor(side / 2 - flat[:, 1]).astype(int)
    order = np.argsort(points[:, 2], kind="stable").repeat(4)  # each point covers 2 x 2 pixels
    step = np.arange(4)
    rows = y[order] + np.resize(step // 2, len(order))
    columns = x[order] + np.resize(step % 2, len(order))
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[rows, columns, :3] = np.clip(cloud.colours * shade[:, None], 0, 255)[order]
    rgba[rows, columns, 3] = 255
    whole = Image.fromarray(rgba).convert("RGBa")  # premultiplied: no dark seam
    return whole.resize((VIEW_SIDE_PX, VIEW_SIDE_PX), Image.Resampling.BOX).convert("RGBA")
