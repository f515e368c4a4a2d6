"""Files that are replaced as a whole: a reader sees the old content or the new one, never a part."""

import hashlib
from pathlib import Path


def write_atomic(path: Path, text: str) -> None:
    """Writes a draft beside the file and renames it, which POSIX does atomically. For one writer at a time: all use the
    same draft. Makes the directory (0700) if there is none. Raises OSError.

    There is no fsync: the file survives a crash of the process, not of the host. What must survive that belongs into
    the database.
    """
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    draft = path.with_name(f"{path.name}.draft")
    draft.write_text(text, encoding="utf-8")
    draft.replace(path)


def of_provider(path: Path, provider: str | None) -> Path:
    """`path` with a hash of the provider's address: ``limits-3f2a91c0.json``; unchanged for None, the default one."""
    if provider is None:
        return path
    return path.with_stem(f"{path.stem}-{hashlib.sha256(provider.encode()).hexdigest()[:8]}")
