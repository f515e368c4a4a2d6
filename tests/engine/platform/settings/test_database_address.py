"""DATABASE_URL as people copy it: what cannot work is named with what to write instead, and the password never."""

import pytest
from pydantic import SecretStr

from engine.platform.errors import InvalidSettings
from engine.platform.settings.settings import Settings, read_environment

SECRET = "h4nter2"


@pytest.mark.parametrize(
    "address",
    [
        "postgresql://user:pw@host/db",
        "postgres://user:pw@host:5432/db",
        "postgresql://user:p%40ss%231@host/db",
        "postgresql://user@host/db?sslmode=require",
        "postgresql://user@host/db?sslmode=verify-full&sslrootcert=system&connect_timeout=5",
        "postgresql://user:pw@[2001:db8::1]:5432/db",
        "postgresql://user:pw@one:5432,two:5433/db?target_session_attrs=read-write",
        "postgresql://user@/db?host=/var/run/postgresql",
        "postgresql://user@%2Fvar%2Frun%2Fpostgresql/db",
        "postgresql:///db",
        "postgresql://user@host/db?options=-csearch_path%3Dx",
        "postgresql://warmup@/warmup?host=@:sparky-1&sslmode=disable&gssencmode=disable",
        "host=/var/run/postgresql dbname=db user=me",
        "host=localhost port=5432 dbname=db user=me password='p@ss w#rd/?'",
        "service=mine",
        "postgresql://user@host/db?ssl=true",
        "postgresql://postgres.abcdefgh:pw@aws-0-eu-central-1.pooler.supabase.com:6543/postgres",
    ],
)
def test_an_address_that_can_work_is_taken(address: str) -> None:
    settings = read_environment({"DATABASE_URL": address})

    assert settings.database_url is not None
    assert Settings.from_child_json(settings.to_child_json()).database_url == settings.database_url


@pytest.mark.parametrize(
    "around",
    [" {} ", "{}\n", "\t{}\r\n"],
)
def test_blanks_around_an_address_are_dropped(around: str) -> None:
    settings = read_environment({"DATABASE_URL": around.format("postgresql://u:pw@host/db")})

    assert settings.database_url == SecretStr("postgresql://u:pw@host/db")


@pytest.mark.parametrize(
    ("address", "words"),
    [
        (f"postgresql://u:{SECRET}@host/db?pgbouncer=true", ["pgbouncer", "leave"]),
        (f"postgresql://u:{SECRET}@host/db?sslmode=require&pgbouncer=true&connection_limit=1", ["pgbouncer"]),
        (f"postgresql://u:{SECRET}@host/db?schema=public", ["schema", "leave"]),
        (f"postgresql://u:{SECRET}@host/db?ssl=require", ["ssl", "sslmode=require"]),
        (f"POSTGRESQL://u:{SECRET}@host/db", ["small letters"]),
        (f"postgresql://u:{SECRET}@host/db?h4nter2", ["parameter"]),
        (f"postgresql://u:{SECRET}@host/db#x", ["#"]),
        (f"postgresql://u:{SECRET}@host/db?sslmode=requre", ["sslmode", "require"]),
        (f"postgresql://u:{SECRET}@host/db?sslmode=no-verify", ["sslmode", "require"]),
        (f"postgresql://u:{SECRET}@host/db?sslmod=require", ["sslmod", "sslmode"]),
        (f"postgresql://u:{SECRET}@host/db?target_session_attrs=primry", ["target_session_attrs", "primary"]),
        (f"postgresql+asyncpg://u:{SECRET}@host/db", ["postgresql+asyncpg", "postgresql://"]),
        (f"postgres+psycopg2://u:{SECRET}@host/db", ["postgres+psycopg2", "postgresql://"]),
        (f"jdbc:postgresql://host/db?user=u&password={SECRET}", ["jdbc:", "postgresql://"]),
        (f"mysql://u:{SECRET}@host/db", ["mysql", "PostgreSQL"]),
        (f"cockroachdb://u:{SECRET}@host/db", ["cockroachdb", "PostgreSQL"]),
        ("sqlite:///db.sqlite", ["sqlite", "PostgreSQL"]),
        (f'"postgresql://u:{SECRET}@host/db"', ["quot"]),
        (f"'postgresql://u:{SECRET}@host/db'", ["quot"]),
        (f"\u201cpostgresql://u:{SECRET}@host/db\u201d", ["quot"]),
        (f"postgresql://u:{SECRET}@ss#1@host/db", ["password", "%40"]),
        (f"postgresql://u:{SECRET}@1@host/db", ["password", "%40"]),
        (f"postgresql://u:{SECRET}#1@host/db", ["password", "%23"]),
        (f"postgresql://u:p/{SECRET}?@host/db", ["password", "%2F"]),
        (f"postgresql://u:{SECRET}/@host/db", ["password", "%2F"]),
        (f"postgresql://u:{SECRET}?1@host/db", ["password", "%3F"]),
        (f"postgresql://u:{SECRET}%@host/db", ["password", "%25"]),
        (f"postgresql://u:{SECRET}%zz@host/db", ["password", "%25"]),
        (f"postgresql://u:{SECRET}%00@host/db", ["password", "%25"]),
        (f"postgresql://u:{SECRET} x@host/db", ["%20"]),
        ("postgresql://postgres:[YOUR-PASSWORD]@db.abc.supabase.co:5432/postgres", ["[YOUR-PASSWORD]", "password"]),
        ("postgresql://postgres:<password>@host/db", ["password", "placeholder"]),
        ("postgresql://postgres:${DB_PASSWORD}@host/db", ["password", "placeholder"]),
        ("postgresql://postgres:pw@db.[YOUR-PROJECT-REF].supabase.co/postgres", ["placeholder"]),
        ("https://abcdefgh.supabase.co", ["SUPABASE_URL", "postgresql://"]),
        ("abcdefgh.supabase.co", ["postgresql://"]),
        ("http://host/db", ["postgresql://"]),
        (f"postgresql://u:{SECRET}@host", ["database", "/"]),
        (f"postgresql://u:{SECRET}@host/", ["database", "/"]),
        (f"postgresql://u:{SECRET}@host:5432x/db", ["port"]),
        (f"postgresql://u:{SECRET}@host:99999/db", ["port"]),
        (f"postgresql://u:{SECRET}@host:0/db", ["port"]),
        (f"postgresql://u:{SECRET}@2001:db8::1/db", ["[", "IPv6"]),
        (f"postgresql:/u:{SECRET}@host/db", ["postgresql://"]),
        (f"psql postgresql://u:{SECRET}@host/db", ["psql", "address alone"]),
        (f"DATABASE_URL=postgresql://u:{SECRET}@host/db", ["DATABASE_URL=", "leave"]),
        (f"host=h dbname=db passwort={SECRET}", ["passwort"]),
        (f"host=h dbname=db password={SECRET} {SECRET}", ["="]),
        (f"host=h dbname=db port=many password={SECRET}", ["port"]),
        (f"host=h dbname=db sslmode=requre password={SECRET}", ["sslmode"]),
        (f"postgresql://u:{SECRET}@ho st/db", ["blank"]),
        (f"postgresql://u:{SECRET}@host/db\u200b", ["invisible"]),
        ("this is no address", ["postgresql://"]),
    ],
)
def test_an_address_that_cannot_work_is_named_with_what_to_write_instead(address: str, words: list[str]) -> None:
    with pytest.raises(InvalidSettings) as caught:
        read_environment({"DATABASE_URL": address, "SPARKY_LLM_RPM": "many"})

    sentence = str(caught.value)
    assert "DATABASE_URL: " in sentence
    assert "SPARKY_LLM_RPM: " in sentence
    for word in words:
        assert word in sentence
    assert SECRET not in sentence
    assert "hunter" not in sentence
    assert len(sentence.splitlines()) == 3
