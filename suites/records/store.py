"""Reading and writing result files: atomic, checked by schema and checksum in both directions.

results/scratch/runs/CODE-MACHINE/CASE.json            training runs, one each, shared by all suites
results/scratch/SUITE-PROFILE/CODE-MACHINE/*.json      what one suite made; scratch is ignored by git
results/records/SUITE-PROFILE/COMMIT-MACHINE.json      complete runs of a clean commit
results/published/NAME.json                            numbers of publications
"""

import json
import os
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from pydantic import ValidationError

from suites.errors import UserError
from suites.records.places import place
from suites.records.record import SCHEMA_VERSION, Code, Environment, ResultFile, canonical, digest

RESULTS = Path(__file__).resolve().parents[2] / "results"  # of this checkout
# schema version → what turns such a body into one of the next version
UPGRADES: dict[int, Callable[[dict], dict]] = {}


class Store:
    """The results folder of a checkout, or any other folder of the same form."""

    def __init__(self, root: Path) -> None:
        self.root = place(root)

    def scratch(self, suite: str, profile: str, code: Code, environment: Environment) -> Path:
        """Folder of the files that this code makes of a suite on this machine."""
        return self.root / "scratch" / f"{suite}-{profile}" / key(code, environment)

    def runs(self, code: Code, environment: Environment) -> Path:
        """Folder of the training runs that this code makes on this machine, for whichever suite."""
        return self.root / "scratch" / "runs" / key(code, environment)

    def published_path(self, results: ResultFile) -> Path:
        assert results.code is not None
        assert results.environment is not None
        assert results.code.commit is not None
        run = f"{results.code.commit[:12]}-{results.environment.machine[:8]}"
        return self.root / "records" / f"{results.suite}-{results.profile}" / f"{run}.json"

    def files(self, kind: str, pattern: str = "**/*.json") -> Iterator[tuple[Path, ResultFile]]:
        """All files of "records", "scratch" or "published", in the order of paths.

        Raises UserError for an invalid file, and for one in records that is not clean or misnamed.
        """
        for path in sorted((self.root / kind).glob(pattern)):
            results = read(path)
            if kind == "records":
                self.check_place(path, results)
            yield path, results

    def check_place(self, path: Path, results: ResultFile) -> None:
        if results.code is None or results.code.commit is None or results.code.dirty:
            raise UserError(f"{path} is not of a clean commit; records hold nothing else")
        if path != (place := self.published_path(results)):
            raise UserError(f"{path} holds what belongs in {place}; move it back")


def key(code: Code, environment: Environment) -> str:
    return f"{code.sha256[:12]}-{environment.machine[:8]}"


def write(path: Path, results: ResultFile, *, replace: bool = True) -> None:
    """Validates, then writes `path` as a whole or not at all; see `write_text`."""
    write_text(path, text(ResultFile.model_validate(results.model_dump())), replace=replace)


def text(results: ResultFile) -> str:
    """What its file holds, checksum included."""
    body = results.model_dump(mode="json")
    return canonical(body | {"sha256": digest(body)}) + "\n"


def read(path: Path) -> ResultFile:
    """Raises UserError for a file that is missing, truncated, edited or of no known schema."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        raise UserError(f"cannot read result file {path}: {error.strerror}") from error
    except ValueError as error:
        raise UserError(f"{path} is not UTF-8 text ({error}); delete it and run again") from error
    return parse(text, path)


def parse(text: str, path: Path) -> ResultFile:
    """The result file with this text; `path` names it in the errors of `read`."""
    try:
        body = json.loads(text, parse_constant=refused)
        if not isinstance(body, dict):
            raise UserError(f"{path} holds a {type(body).__name__} and not a result file")
        given, own = body.pop("sha256", None), digest(body)
    except (ValueError, RecursionError) as error:  # also a lone surrogate, which no digest has
        raise UserError(
            f"{path} is not a whole JSON file ({error}); delete it and run again"
        ) from error
    if given != own:
        raise UserError(f"{path} does not match its checksum: results are never edited by hand")
    try:
        return ResultFile.model_validate(upgraded(path, body))
    except ValidationError as error:
        raise UserError(f"{path} does not fit the schema: {error}") from error


def refused(constant: str) -> None:
    raise ValueError(f"{constant} is no number of JSON")


def upgraded(path: Path, body: dict) -> dict:
    """`body` in the present schema; raises UserError for a version that has no reader here."""
    while (version := body.get("schema_version")) != SCHEMA_VERSION:
        if version not in UPGRADES:
            readable = ", ".join(map(str, [*UPGRADES, SCHEMA_VERSION]))
            raise UserError(f"{path} has schema version {version}; this suite reads {readable}")
        body = UPGRADES[version](body)
    return body


def write_text(path: Path, text: str, *, replace: bool = True) -> None:
    """As `write_bytes`, in UTF-8."""
    write_bytes(path, text.encode(), replace=replace)


def write_bytes(path: Path, content: bytes, *, replace: bool = True) -> None:
    """Writes beside `path`, syncs, renames: readers and crashes see the old file or the new one.

    Raises UserError where the disk is full or the path not writable, and FileExistsError where
    `path` exists and may not be replaced.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
            if replace:
                os.replace(temporary, path)
            else:
                os.link(temporary, path)
        finally:
            Path(temporary).unlink(missing_ok=True)
        sync_folder(path.parent)
    except OSError as error:
        if not replace and path.exists():
            raise
        raise UserError(f"cannot write {path}: {error.strerror}; nothing was changed") from error


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def publish(store: Store, files: list[ResultFile], wanted: list[str]) -> Path:
    """Joins `files` into a record when they hold all `wanted` cases of a clean commit.

    Raises UserError saying what is missing, mixed or in the way otherwise.
    """
    suite, profile, code = files[0].suite, files[0].profile, files[0].code
    found = {record.case_id: record for file in files for record in file.records}
    if missing := [case for case in wanted if case not in found]:
        raise UserError(
            f"{suite} {profile} is not complete: {len(missing)} of {len(wanted)} cases have no "
            f"record; finish it with: python -m suites run {suite} --profile {profile}"
        )
    commits = {file.code.commit for file in files if file.code and not file.code.dirty}
    if len(commits) != 1 or any(file.code is None or file.code.dirty for file in files):
        raise UserError(
            f"{suite} {profile} did not run on one clean commit of a checkout; "
            "commit, then run it again"
        )
    if any(file.environment != files[0].environment for file in files):
        raise UserError(
            f"{suite} {profile} ran on several machines or versions; run all of it on one"
        )
    results = ResultFile(
        suite=suite,
        profile=profile,
        code=code,
        environment=files[0].environment,
        records=[found[case] for case in wanted],
    )
    path = store.published_path(results)
    try:
        write(path, results, replace=False)
    except FileExistsError:
        extend(path, results)
    return path


def extend(path: Path, results: ResultFile) -> None:
    """Adds what `results` has beyond the record at `path`, which are both of one commit and machine.

    Raises UserError where they hold other numbers for one case.
    """
    known = read(path)
    held = {record.case_id: record for record in known.records}
    same = (known.code, known.environment) == (results.code, results.environment)
    if not same or any(held.get(r.case_id, r) != r for r in results.records):
        raise UserError(
            f"{path} exists and holds other numbers; a record is never replaced silently: "
            "delete it first"
        )
    if more := [record for record in results.records if record.case_id not in held]:
        write(path, known.model_copy(update={"records": [*known.records, *more]}))
