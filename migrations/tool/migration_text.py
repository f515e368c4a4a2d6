"""The text of a migration that changes functions from one state to another. Pure: both states are passed in."""

from collections.abc import Iterable, Iterator
from typing import Final

from migrations.tool.catalogue import OWN_ROLES, Dependant, Function
from migrations.tool.source import MigrationToolError, Statement

_OPENING: Final = "set check_function_bodies = off; -- a function may call one that is created further down"
_CLOSING: Final = "reset check_function_bodies;\n\nnotify pgrst, 'reload schema';\n"


def describe_differences(before: dict[str, Function], after: dict[str, Function]) -> tuple[str, ...]:
    """One phrase for each function that differs between the two states, sorted by identity; () for equal states."""
    return tuple(
        f"{identity} {_describe_difference(before.get(identity), after.get(identity))}"
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
    """The migration from `before` to `after`. It may run again on its own result.

    `created` has the statement of each function of `after`, `dependants` what uses functions of `before`. Raises
    MigrationToolError for a change that no such migration can make.
    """
    gone = {identity: function for identity, function in before.items() if identity not in after}
    changed = [
        identity for identity in created if _get_definition(before.get(identity)) != _get_definition(after[identity])
    ]
    for identity in changed:
        _refuse_other_shape(before.get(identity), after[identity])
    orphaned = [dependant for dependant in dependants if dependant.function in gone]
    parts = [
        f"-- {title}: functions as migrations/functions/ has them.",
        _OPENING,
        *(created[identity].comment + created[identity].text for identity in changed),
        *_iter_comment_statements(before, after),
        *(
            _build_trigger_statement(dependant, _find_successor(dependant, gone, before, after))
            for dependant in orphaned
        ),
        *_iter_right_statements(before, after),
        *_iter_reindex_statements(changed, before, dependants),
    ]
    if gone:
        parts.append("\n".join(f"drop function if exists {identity};" for identity in gone))
    return "\n\n".join([*parts, _CLOSING])


def _describe_difference(before: Function | None, after: Function | None) -> str:
    if before is None:
        return "is new"
    if after is None:
        return "is gone"
    if before.definition != after.definition:
        return "has another text"
    return "has another comment" if before.callers == after.callers else "may be called by others"


def _get_definition(function: Function | None) -> str | None:
    return function.definition if function else None


def _refuse_other_shape(before: Function | None, after: Function) -> None:
    """Raises MigrationToolError for a change that `create or replace` refuses.

    Dropping the function first would not help, because earlier files that run again would fail on the new one.
    """
    if before is None:
        return
    if (
        before.result != after.result
        or before.argument_names != after.argument_names
        or before.defaults > after.defaults
    ):
        raise MigrationToolError(
            f"{after.identity} has another result, other names of parameters or fewer defaults than before. PostgreSQL "
            "does not replace such a function, and earlier migrations that run once more would fail on the new one: "
            "give it another name, or its parameters other types or another order."
        )


def _iter_comment_statements(before: dict[str, Function], after: dict[str, Function]) -> Iterator[str]:
    for identity, function in after.items():
        earlier = before.get(identity)
        if function.comment != (earlier.comment if earlier else None):
            quoted = "null" if function.comment is None else "'" + function.comment.replace("'", "''") + "'"
            yield f"comment on function {identity} is {quoted};"


def _iter_right_statements(before: dict[str, Function], after: dict[str, Function]) -> Iterator[str]:
    groups: dict[frozenset[str], list[str]] = {}
    for identity, function in after.items():
        earlier = before.get(identity)
        if earlier is None or earlier.callers != function.callers:
            groups.setdefault(function.callers, []).append(identity)
    for callers, identities in groups.items():
        functions = ",\n  ".join(identities)
        refused = [role for role in OWN_ROLES if role not in callers]
        yield f"revoke execute on function\n  {functions}\n  from {', '.join(refused)};"
        if callers:
            yield f"grant execute on function\n  {functions}\n  to {', '.join(sorted(callers))};"


def _iter_reindex_statements(
    changed: list[str], before: dict[str, Function], dependants: Iterable[Dependant]
) -> Iterator[str]:
    """Indexes of changed functions, because an index keeps the values that the old function computed."""
    for dependant in dependants:
        if dependant.index and dependant.function in changed and dependant.function in before:
            yield f"reindex index {dependant.index};"


def _find_successor(
    dependant: Dependant, gone: dict[str, Function], before: dict[str, Function], after: dict[str, Function]
) -> Function:
    """The new function that differs in its name only, to which a trigger can be moved.

    Raises MigrationToolError for other dependants, and if there is not exactly one such function.
    """
    old = gone[dependant.function]
    same = [
        function
        for identity, function in after.items()
        if identity not in before
        and (function.arguments, function.result, function.body) == (old.arguments, old.result, old.body)
    ]
    if dependant.trigger is None or len(same) != 1:
        raise MigrationToolError(
            f"{old.identity} is used by {dependant.description}: change that first, in a migration of its own."
        )
    return same[0]


def _build_trigger_statement(dependant: Dependant, successor: Function) -> str:
    """The statement that makes the trigger call the successor."""
    trigger = str(dependant.trigger).replace("CREATE TRIGGER", "create or replace trigger", 1)
    old = dependant.function.partition("(")[0]
    return trigger.replace(f"EXECUTE FUNCTION {old}(", f"execute function {successor.name}(") + ";"
