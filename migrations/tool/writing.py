"""The text of a migration that brings functions from one state to another; pure, with both states passed in."""

from collections.abc import Iterable, Iterator
from typing import Final

from migrations.tool.catalogue import OWN_ROLES, Dependant, Function
from migrations.tool.source import CannotWrite, Statement

_OPENING: Final = "set check_function_bodies = off; -- a function may call one that is created further down"
_CLOSING: Final = "reset check_function_bodies;\n\nnotify pgrst, 'reload schema';\n"


def differences(before: dict[str, Function], after: dict[str, Function]) -> tuple[str, ...]:
    """Each function that is not the same in both, with what differs."""
    return tuple(
        f"{identity} {_difference(before.get(identity), after.get(identity))}"
        for identity in sorted(before.keys() | after.keys())
        if before.get(identity) != after.get(identity)
    )


def write_migration(
    title: str,
    before: dict[str, Function],
    after: dict[str, Function],
    created: dict[str, Statement],
    dependants: Iterable[Dependant],
) -> str:
    """The migration from `before` to `after`, whose functions `created` creates. It may run on top of itself.

    Raises CannotWrite for what no such migration can do.
    """
    gone = {identity: function for identity, function in before.items() if identity not in after}
    changed = [identity for identity in created if _text(before.get(identity)) != _text(after[identity])]
    for identity in changed:
        _refuse_other_shape(before.get(identity), after[identity])
    used = [each for each in dependants if each.function in gone]
    parts = [
        f"-- {title}: functions as migrations/functions/ has them.",
        _OPENING,
        *(created[identity].comment + created[identity].text for identity in changed),
        *_comments(before, after),
        *(_move_triggers(each, _successor(each, gone, before, after)) for each in used),
        *_rights(before, after),
        *_reindexing(changed, before, dependants),
    ]
    if gone:
        parts.append("\n".join(f"drop function if exists {identity};" for identity in gone))
    return "\n\n".join([*parts, _CLOSING])


def _difference(before: Function | None, after: Function | None) -> str:
    if before is None:
        return "is new"
    if after is None:
        return "is gone"
    if before.definition != after.definition:
        return "has another text"
    return "has another comment" if before.callers == after.callers else "may be called by others"


def _text(function: Function | None) -> str | None:
    return function.definition if function else None


def _refuse_other_shape(before: Function | None, after: Function) -> None:
    """Raises CannotWrite for what `create or replace` refuses. Dropping the function first would not help, because
    earlier files that run again would fail."""
    if before is None:
        return
    if (
        before.result != after.result
        or before.argument_names != after.argument_names
        or before.defaults > after.defaults
    ):
        raise CannotWrite(
            f"{after.identity} has another result, other names of parameters or fewer defaults than before. PostgreSQL "
            "does not replace such a function, and earlier migrations that run once more would fail on the new one: "
            "give it another name, or its parameters other types or another order."
        )


def _comments(before: dict[str, Function], after: dict[str, Function]) -> Iterator[str]:
    for identity, function in after.items():
        known = before.get(identity)
        if function.comment != (known.comment if known else None):
            quoted = "null" if function.comment is None else "'" + function.comment.replace("'", "''") + "'"
            yield f"comment on function {identity} is {quoted};"


def _rights(before: dict[str, Function], after: dict[str, Function]) -> Iterator[str]:
    groups: dict[frozenset[str], list[str]] = {}
    for identity, function in after.items():
        known = before.get(identity)
        if known is None or known.callers != function.callers:
            groups.setdefault(function.callers, []).append(identity)
    for callers, identities in groups.items():
        functions = ",\n  ".join(identities)
        refused = [role for role in OWN_ROLES if role not in callers]
        yield f"revoke execute on function\n  {functions}\n  from {', '.join(refused)};"
        if callers:
            yield f"grant execute on function\n  {functions}\n  to {', '.join(sorted(callers))};"


def _reindexing(changed: list[str], before: dict[str, Function], dependants: Iterable[Dependant]) -> Iterator[str]:
    """Reindexes, because an index keeps the values of the old function."""
    for each in dependants:
        if each.index and each.function in changed and each.function in before:
            yield f"reindex index {each.index};"


def _successor(
    dependant: Dependant, gone: dict[str, Function], before: dict[str, Function], after: dict[str, Function]
) -> Function:
    """The new function that differs in its name only. Raises CannotWrite if there is not exactly one."""
    old = gone[dependant.function]
    same = [
        function
        for identity, function in after.items()
        if identity not in before
        and (function.arguments, function.result, function.body) == (old.arguments, old.result, old.body)
    ]
    if dependant.trigger is None or len(same) != 1:
        raise CannotWrite(
            f"{old.identity} is used by {dependant.description}: change that first, in a migration of its own."
        )
    return same[0]


def _move_triggers(dependant: Dependant, successor: Function) -> str:
    """The trigger's definition with the successor."""
    trigger = str(dependant.trigger).replace("CREATE TRIGGER", "create or replace trigger", 1)
    old = dependant.function.partition("(")[0]
    return trigger.replace(f"EXECUTE FUNCTION {old}(", f"execute function {successor.name}(") + ";"
