from pathlib import Path

from cli import settings_doc
from engine.platform.settings.settings import Settings


def test_every_setting_has_a_meaning_and_none_is_left_over() -> None:
    assert set(settings_doc.MEANING) == set(Settings.model_fields)


def test_the_document_is_what_the_code_says() -> None:
    written = Path(settings_doc.__file__).parent.parent / "docs" / "settings.md"
    assert written.read_text(encoding="utf-8") == settings_doc.render_document(), "run: python -m cli.settings_doc"
