"""Files that are replaced as a whole: whoever reads one sees what it held before or what it holds now, never a part."""

import hashlib
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Writes beside the file, then takes its place; one writer at a time. Makes its directory (0700) if there is none.

    Survives the death of the process, not of the host: what must outlive that belongs in the database. Raises OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def of_provider(path: Path, provider: str | None) -> Path:
    """`path` for what is known of one provider, by its address: ``limits-3f2a91c0.json``; None is the usual one."""
    if provider is None:
        return path
    return path.with_stem(f"{path.stem}-{hashlib.sha256(provider.encode()).hexdigest()[:8]}")
