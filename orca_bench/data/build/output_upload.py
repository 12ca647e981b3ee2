"""The folder of a finished build in, a data set of the hub out.

Its own module because a build that asks a teacher needs none of it.
"""

from __future__ import annotations

from orca_bench import hub
from orca_bench.data.build.build_folder import BuildFolder
from orca_bench.errors import UserError
from orca_bench.files import catch_read_errors, file_sha256


def upload_output(folder: BuildFolder, repository: str) -> str:
    """Upload records, data card and manifest to a data set of the hub as one commit; returns the commit's address.

    The same call goes on where an upload broke off (`hub.upload_files`). Raises UserError where the build is not finished, where
    the records are not those of the manifest, and where the hub does not take them.
    """
    manifest = folder.read_manifest()
    if not manifest.get("is_complete"):
        raise UserError(
            "not finished, so that it is not uploaded", where=folder.path, hint="the same command continues"
        )
    with catch_read_errors(folder.records_path):
        records_sha256 = file_sha256(folder.records_path)
    if records_sha256 != manifest.get("records_sha256"):
        raise UserError("not the records of the manifest", where=folder.records_path, hint="build them again")
    paths = (folder.records_path, folder.card_path, folder.manifest_path)
    commit_message = f"{manifest.get('records'):,} records, built with orca-bench data build"
    return hub.upload_files(repository, {path.name: path for path in paths}, "records", commit_message, "dataset")
