-- What people write in single lines (names, models, symbols, labels, addresses) is bounded and can be shown: it has no control or
-- format characters. `sparky strategy create` checks the same (engine/plain_text.py); a row that is written by SQL or in a
-- dashboard is checked here.
--
-- Triggers and no CHECK constraints: PostgreSQL checks a constraint again whenever a row is updated, NOT VALID or not, so that a
-- strategy with an old name could not even be paused. A trigger looks only at what is new or becomes another. Old texts are not
-- changed either: two cleaned names could become one, and people find their strategies by them.

-- Whether a text is one line of up to `p_longest` characters that all can be seen, and not blank. Joiners may stand between
-- letters of the scripts that use them and between emoji, a variation selector behind the character whose form it selects.
create or replace function public.is_plain(p_text text, p_longest integer) returns boolean
language sql immutable set search_path = '' as $$
  select length(p_text) <= p_longest and btrim(p_text) <> ''
    and p_text !~ ('[\u0001-\u001f\u007f-\u00a0\u00ad\u034f\u0600-\u0605\u061c\u06dd\u070f\u0890\u0891\u08e2\u115f\u1160\u1680'
      '\u17b4\u17b5\u180e\u2000-\u200b\u200e\u200f\u2028-\u202f\u205f-\u206f\u2800\u3000\u3164\ue000-\uf8ff\ufdd0-\ufdef\ufeff'
      '\uffa0\ufff0-\ufffb\ufffe\uffff\U000110bd\U000110cd\U00013430-\U0001343f\U0001bca0-\U0001bca3\U0001d159'
      '\U0001d173-\U0001d17a\U000e0000-\U000e00ff\U000e01f0-\U0010ffff]')
    and p_text !~ '[\u0300-\u036f\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff]{9}'
    and regexp_replace(
      p_text,
      '(?<=[\u0600-\u1cff])[\u200c\u200d](?=[\u0600-\u1cff])|'
      '(?<=[\u094d\u09cd\u0a4d\u0acd\u0b4d\u0bcd\u0c4d\u0ccd\u0d3b\u0d3c\u0d4d\u0dca\u1039\u103a\u17d2])\u200d(?= |$)|'
      '(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d(?=[\u2190-\u2bff\U0001f000-\U0001faff])|'
      '(?<=[0-9#*\u00a9\u00ae])[\ufe0e\ufe0f]|'
      '(?<=[\u1800-\u180a\u1810-\ufdff\ufe10-\U000e00ff\U000e01f0-\U0010ffff])'
      '[\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]',
      '', 'g'
    ) !~ '[\u200c\u200d\u180b-\u180d\u180f\ufe00-\ufe0f\U000e0100-\U000e01ef]'
$$;

-- Checks columns of the row that are new or become another. Its arguments are pairs: a column and the most characters that it
-- may have. Of a list, every entry is checked, and there are 100 at most.
create or replace function public.check_plain_texts() returns trigger
language plpgsql security definer set search_path = '' as $$
declare
  v_new jsonb := to_jsonb(new);
  v_old jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) else '{}' end;
  v_column text;
  v_longest integer;
begin
  for i in 0 .. tg_nargs - 1 by 2 loop
    v_column := tg_argv[i];
    v_longest := tg_argv[i + 1];
    if v_new ->> v_column is null or v_new -> v_column is not distinct from v_old -> v_column then
      continue;
    elsif jsonb_typeof(v_new -> v_column) <> 'array' then
      if not public.is_plain(v_new ->> v_column, v_longest) then
        raise exception 'the % of % must be one line of 1 to % visible characters', v_column, tg_table_name, v_longest
          using errcode = 'SK400';
      end if;
    elsif jsonb_array_length(v_new -> v_column) > 100 or exists (
      select from jsonb_array_elements_text(v_new -> v_column) e where not public.is_plain(e.value, v_longest)
    ) then
      raise exception 'the % of % must have at most 100 entries, each one line of 1 to % visible characters',
        v_column, tg_table_name, v_longest using errcode = 'SK400';
    end if;
  end loop;
  return new;
end
$$;

-- Notes may have lines and whatever is pasted into them; they are bounded as the command bounds them.
create or replace function public.check_notes() returns trigger
language plpgsql set search_path = '' as $$
begin
  if length(new.custom_prompt) > 4000 and (tg_op = 'INSERT' or new.custom_prompt is distinct from old.custom_prompt) then
    raise exception 'the custom_prompt of ai_strategies must have at most 4000 characters' using errcode = 'SK400';
  end if;
  return new;
end
$$;

create or replace trigger check_plain_texts
  before insert or update of name, model, exchange, target_assets on public.ai_strategies
  for each row execute function public.check_plain_texts('name', '100', 'model', '200', 'exchange', '30', 'target_assets', '30');

-- NaN is greater than every number in PostgreSQL, so that a check for "above 0" takes it.
create or replace function public.check_figures() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_new jsonb := to_jsonb(new);
  v_old jsonb := case when tg_op = 'UPDATE' then to_jsonb(old) else '{}' end;
  v_column text;
begin
  foreach v_column in array tg_argv loop
    if v_new ->> v_column in ('NaN', 'Infinity', '-Infinity') and v_new -> v_column is distinct from v_old -> v_column then
      raise exception 'the % of % must be a number', v_column, tg_table_name using errcode = 'SK400';
    end if;
  end loop;
  return new;
end
$$;

create or replace trigger check_figures before insert or update on public.ai_strategies
  for each row execute function public.check_figures(
    'cadence_seconds', 'min_confidence', 'max_drawdown_percent', 'max_position_usd', 'capital_usd', 'daily_llm_budget_usd',
    'max_entry_percent', 'min_stop_loss_percent'
  );

create or replace trigger check_notes before insert or update of custom_prompt on public.ai_strategies
  for each row execute function public.check_notes();

create or replace trigger check_plain_texts
  before insert or update of label, exchange, environment, account_id on public.bot_credentials
  for each row execute function public.check_plain_texts(
    'label', '100', 'exchange', '100', 'environment', '100', 'account_id', '200'
  );

create or replace trigger check_plain_texts before insert or update of exchange on public.trade_settings_exchange
  for each row execute function public.check_plain_texts('exchange', '100');

-- A kill switch goes on whatever its reason holds: the reason is cut, and nothing is refused.
create or replace function public.shorten_reason() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.reason := left(new.reason, 500);
  return new;
end
$$;

create or replace trigger shorten_reason before insert or update of reason on public.kill_switches
  for each row execute function public.shorten_reason();

-- As before, for an address only: 254 characters are the most that one can have (RFC 5321). auth.users is Supabase's own table,
-- whose rows come from its own service.
create or replace function public.ensure_user(p_email text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_id uuid;
begin
  perform pg_advisory_xact_lock(hashtextextended('ensure_user/' || lower(p_email), 0));
  select u.id into v_id from auth.users u where lower(u.email) = lower(p_email) order by u.created_at limit 1;
  if not found then
    if p_email is null or not public.is_plain(p_email, 254) or p_email !~ '^[^ @]+@[^ @]+$' then
      raise exception 'a new person needs an e-mail address of up to 254 visible characters' using errcode = 'SK400';
    end if;
    insert into auth.users (id, email) values (gen_random_uuid(), lower(p_email)) returning id into v_id;
  end if;
  return to_jsonb(v_id);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  for v_function in
    select p.oid::regprocedure from pg_catalog.pg_proc p
    where p.pronamespace = 'public'::regnamespace
      and p.proname = any (array['is_plain', 'check_plain_texts', 'check_notes', 'check_figures', 'shorten_reason', 'ensure_user'])
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
