"""Where a job reads and writes, looked at before anything of it is loaded."""

from __future__ import annotations

import os
from collections.abc import Sequence

from gristmill.errors import OutputExists, UsageError
from gristmill.storage.uris import shown as shown


def look_at(inputs: Sequence[str], format: str | None, output: str, overwrite: bool) -> None:
    """See that there are inputs, and that the output is free, as far as that is seen from here.

    Args:
        inputs: files, directories, globs and URIs.
        format: of the inputs; None: by suffix.
        output: a folder, or a URI.
        overwrite: whether the output may be there.

    Raises:
        InputMissing: an input matches no file.
        OutputExists: the output is there.
        UsageError: something else is wrong with them.
    """
    from gristmill.storage.inputs import resolve_inputs
    from gristmill.storage.places import output_path
    from gristmill.storage.uris import is_uri

    try:
        resolve_inputs(inputs, format)
        place = output_path(output)
        if not is_uri(place) and not overwrite and os.path.lexists(place):
            raise OutputExists(f"The output {place} exists. Name another, or say that it is to be overwritten.")
    except (ValueError, OSError) as error:
        raise UsageError(f"The inputs or the output cannot be looked at: {error}.") from error
