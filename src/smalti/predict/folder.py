"""Files in, files out: pictures and folders of pictures to answers on disk."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from smalti.data.pictures import PICTURE_SUFFIXES, find_pictures, read_picture
from smalti.predict.loading import load
from smalti.predict.writers import ENDINGS, MASKS, WRITERS, NoSuchAnswerError


def find_files(paths: Sequence[Path], out: Path) -> list[Path]:
    """The pictures meant: files as named, folders by everything below them that is a picture and no answer in `out`.

    Raises:
        ValueError: If a path does not exist, or a folder has no picture.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            answers = out.resolve()
            inside = [p for p in find_pictures(path)
                      if answers == path.resolve() or answers not in p.resolve().parents]  # fmt: skip
            if not inside:
                raise ValueError(f"{path}: no pictures in this folder ({', '.join(sorted(PICTURE_SUFFIXES))})")
            found += inside
        elif path.is_file():
            found.append(path)
        else:
            raise ValueError(f"{path}: no such picture or folder")
    return found


def predict_files(
    model: Path,
    files: Sequence[Path],
    out: Path,
    show: str,
    progress: Callable[[int, int], None] | None = None,
    *,
    changes: Mapping[str, Any] | None = None,
) -> list[str]:
    """Writes each picture's answer into `out`; one bad file never stops the rest.

    Args:
        model: Run folder or checkpoint.
        files: Pictures. Two of the same name (in different folders) get different answers' names.
        out: Folder for the answers.
        show: What is written, one of `WRITERS`.
        progress: Called with (pictures done, pictures in all).
        changes: Dotted keys of the recipe, for a network that is to answer in another way than it was trained.

    Returns:
        What went wrong, a line a file.

    Raises:
        ValueError: If an answer would replace one of the pictures, there is no model, or it does not know the task.
    """
    names = _unique_names(files)
    _check_targets(files, names, out)
    predictor = load(model, changes=changes)
    out.mkdir(parents=True, exist_ok=True)
    writer = WRITERS[show](out)
    failed = []
    for done, (file, name) in enumerate(zip(files, names, strict=True), start=1):
        try:
            picture = read_picture(file)
            writer.add(file, name, picture.permute(1, 2, 0).numpy(), predictor(picture))
        except NoSuchAnswerError:
            raise
        except ValueError as error:
            failed.append(str(error) if str(file) in str(error) else f"{file}: {error}")
        if progress is not None:
            progress(done, len(files))
    writer.finish()
    return failed


def _unique_names(files: Sequence[Path]) -> list[str]:
    """File stems; where two are equal, with the folder's name before, then with a number behind."""
    stems = Counter(file.stem for file in files)
    names: list[str] = []
    taken: set[str] = set()
    for file in files:
        wanted = file.stem if stems[file.stem] == 1 else f"{file.parent.name}_{file.stem}"
        name, number = wanted, 2
        while {f"{name}{ending}" for ending in ENDINGS} & taken:
            name, number = f"{wanted}_{number}", number + 1
        names.append(name)
        taken |= {f"{name}{ending}" for ending in ENDINGS}
    return names


def _check_targets(files: Sequence[Path], names: Sequence[str], out: Path) -> None:
    pictures = {file.resolve() for file in files}
    for name in names:
        for target in (out / f"{name}{ending}" for ending in ENDINGS):
            if target.resolve() in pictures:
                raise ValueError(f"the answer {target} would replace a picture that is to be segmented: choose another "
                                 "folder with --out")  # fmt: skip
        inside = [picture for picture in pictures if (out / f"{name}{MASKS}").resolve() in picture.parents]
        if inside:
            raise ValueError(f"{inside[0]} lies where masks of {name} may be written: choose another folder with --out")
