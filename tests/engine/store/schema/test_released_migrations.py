"""Migrations that have been released are never edited: a database that applied one would refuse the next."""

import pytest

from engine.store.schema.migrate import read_migrations

RELEASED = {
    "20260101000100_auth_compatibility.sql": "c63afbd3f18f7f1814eee3236c910361adad01f84666c0a118ab08592c9fe681",
    "20260101000200_strategies.sql": "b21dd1433e7ccc53dedeb188ca625dfcdbf10d6021831ea8a7727b8fe824f83c",
    "20260101000300_credentials.sql": "9ba2ad2704a8363ae5d7ff909e5cc462892c71c43c6ac33de4b5e8cd8b884df0",
    "20260101000400_books.sql": "27266bd58ebb51aab50b5f57a413b38400b218bb7f2ba26cd4e155dfc1c171b6",
    "20260101000500_signals.sql": "d6fe8d9ab1093883b490a565f42224158ecbf1af207af4102de569e6cb948fb6",
    "20260101000600_deciding.sql": "841a292e8a60eae78764b28531e2e3f55ddb7ab8a337bc6a7415714f8f0e49b0",
    "20260101000700_delivering.sql": "6630aa9330fbbd4f48cb14f23d89bf81191c7a20d512a765fd1ba115102124ef",
    "20260101000800_risk.sql": "b28a543c840ebd18ad5e49aa19425d84a4b4286d3ec33f5df9a3d66aef5c470e",
    "20260101000900_executing.sql": "07c4b6fcda5530976a174430eaa745c3c57d9bc265e869e2b23a5064f4a08266",
    "20260101001000_booking.sql": "f1fb40b09489d6753bdabb15e792a8fd124d2d2e6b6c2a8a3fa2f3cfc6411364",
    "20260101001100_marking.sql": "1b6e22f8ec820ee17675768e3883f85fda8ebd5746855e49eb4136176fa399b8",
    "20260101001200_people.sql": "a4c21a2f6844f5c4d6a68cffb15e82beb72241a1bd0fe727affee49ceb8ca7e8",
    "20260101001300_health.sql": "168b8d48ca895b87fb3d0e412ef03d1d8cfbade517ab3b9c95ab0484c4083336",
    "20260101001400_access.sql": "bdc7b0c769b1e1e0fb62ff6821501f9be4a3e6d93890fbc97377f5d90d486405",
}


@pytest.mark.parametrize("name", RELEASED)
def test_a_released_migration_stays_as_it_is_and_a_change_is_a_new_file(name: str) -> None:
    (found,) = [migration for migration in read_migrations() if migration.name == name]
    assert found.checksum == RELEASED[name]


def test_later_migrations_have_later_names() -> None:
    names = [migration.name for migration in read_migrations()]
    assert names[: len(RELEASED)] == list(RELEASED)
