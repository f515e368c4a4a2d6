-- Strategies: what a row of one must satisfy, whoever writes it, and what people do with their own.

-- One spelling of an exchange, whoever writes it: functions, credentials and venues go by it.
create or replace function public.normalize_exchange() returns trigger
language plpgsql set search_path = '' as $$
begin
  new.exchange := lower(new.exchange);
  return new;
end
$$;

-- What people may not write holds even where somebody has granted them whole tables, as recipes for Supabase often do: a second
-- lock behind the column grants.
create or replace function public.guard_strategy() returns trigger
language plpgsql set search_path = '' as $$
declare
  v_forged text;
begin
  if current_user not in ('anon', 'authenticated') then
    return new;
  end if;
  select string_agg(n.key, ', ' order by n.key) into v_forged
  from jsonb_each(to_jsonb(new)) n
  where n.key = any (array[
      'id', 'user_id', 'performance_fee_percent', 'is_prop_allocation', 'paused_reason', 'paused_at', 'paused_traceback',
      'running_since', 'created_at', 'updated_at'
    ])
    and n.value is distinct from case
      when tg_op = 'UPDATE' then to_jsonb(old) -> n.key
      when n.key = 'performance_fee_percent' then to_jsonb(20.00)
      when n.key = 'is_prop_allocation' then to_jsonb(false)
      when n.key in ('paused_reason', 'paused_at', 'paused_traceback', 'running_since') then 'null'::jsonb
      else n.value -- whose row it is, the policy says
    end;
  if v_forged is not null then
    raise exception 'permission denied for column % of ai_strategies', v_forged using errcode = '42501';
  end if;
  return new;
end
$$;

-- updated_at is what the engine watches; the reason of a pause ends with the pause, whoever ends it.
create or replace function public.strategy_row_changed() returns trigger
language plpgsql set search_path = '' as $$
begin
  if new.status = 'running' then
    new.paused_reason := null;
    new.paused_at := null;
    new.paused_traceback := null;
    if old.status is distinct from 'running' then
      new.running_since := clock_timestamp();
    end if;
  elsif new.status = 'paused' and old.status is distinct from 'paused' then
    new.paused_at := coalesce(new.paused_at, clock_timestamp());
  end if;
  if new is distinct from old then
    new.updated_at := clock_timestamp();
  end if;
  return new;
end
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

-- The rules in force for a strategy. An unknown profile has those of the conservative one.
create or replace function public.entry_rules(p_strategy public.ai_strategies) returns jsonb
language sql immutable set search_path = '' as $$
  select jsonb_build_object(
    'stop_loss_required', coalesce(p_strategy.stop_loss_required, true),
    'max_entry_percent', coalesce(p_strategy.max_entry_percent, case p_strategy.risk_profile
      when 'aggressive' then 100 when 'balanced' then 50 else 25 end),
    'adding', coalesce(p_strategy.adding, case
      when p_strategy.risk_profile in ('aggressive', 'balanced') then 'to_winner' else 'never' end),
    'min_stop_loss_percent', coalesce(p_strategy.min_stop_loss_percent, 0.2)
  )
$$;

-- A person's names are unique among those not terminated.
create or replace function public.create_strategy(p_strategy jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategy public.ai_strategies := jsonb_populate_record(null::public.ai_strategies, p_strategy);
begin
  if exists (
    select from public.ai_strategies s
    where s.user_id = v_strategy.user_id and s.name = v_strategy.name and s.status <> 'terminated'
  ) then
    raise exception 'there is already a strategy called %', v_strategy.name using errcode = 'SK409';
  end if;
  insert into public.ai_strategies (
    user_id, name, status, risk_profile, target_assets, exchange, is_paper_trading, cadence_seconds, min_confidence,
    max_drawdown_percent, leverage_max, max_position_usd, capital_usd, daily_llm_budget_usd, model, custom_prompt,
    context_intervals, stop_loss_required, max_entry_percent, adding, min_stop_loss_percent, max_spread_percent,
    max_slippage_percent, margin_mode
  ) values (
    v_strategy.user_id, v_strategy.name, v_strategy.status, v_strategy.risk_profile, v_strategy.target_assets,
    v_strategy.exchange, v_strategy.is_paper_trading, v_strategy.cadence_seconds, v_strategy.min_confidence,
    v_strategy.max_drawdown_percent, v_strategy.leverage_max, v_strategy.max_position_usd, v_strategy.capital_usd,
    v_strategy.daily_llm_budget_usd, v_strategy.model, v_strategy.custom_prompt, coalesce(v_strategy.context_intervals, '{}'),
    v_strategy.stop_loss_required, v_strategy.max_entry_percent, v_strategy.adding, v_strategy.min_stop_loss_percent,
    v_strategy.max_spread_percent, v_strategy.max_slippage_percent, v_strategy.margin_mode
  ) returning * into v_strategy;
  return to_jsonb(v_strategy);
end
$$;

create or replace function public.list_strategies() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(s) order by s.created_at, s.id), '[]') from public.ai_strategies s
$$;

-- By id, or by name among those not terminated.
create or replace function public.get_strategy(p_ref text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_found jsonb;
begin
  select jsonb_agg(to_jsonb(s)) into v_found from public.ai_strategies s where s.id::text = lower(p_ref);
  if v_found is null then
    select jsonb_agg(to_jsonb(s)) into v_found from public.ai_strategies s where s.name = p_ref and s.status <> 'terminated';
  end if;
  if jsonb_array_length(v_found) > 1 then
    raise exception 'several strategies are called %: use the id', p_ref using errcode = 'SK409';
  end if;
  return v_found -> 0;
end
$$;

create or replace function public.set_strategy_status(p_strategy_id uuid, p_status text) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategy public.ai_strategies;
begin
  select * into v_strategy from public.ai_strategies s where s.id = p_strategy_id for no key update;
  if not found then
    raise exception 'there is no strategy %', p_strategy_id using errcode = 'SK404';
  elsif v_strategy.status = 'terminated' and p_status <> 'terminated' then
    raise exception 'strategy % is terminated for good', v_strategy.name using errcode = 'SK409';
  end if;
  update public.ai_strategies s set status = p_status where s.id = p_strategy_id returning * into v_strategy;
  return to_jsonb(v_strategy);
end
$$;

create or replace function public.delete_strategy(p_strategy_id uuid) returns jsonb
language sql security definer set search_path = '' as $$
  select public.set_strategy_status(p_strategy_id, 'terminated')
$$;

revoke execute on function
  public.normalize_exchange, public.guard_strategy, public.strategy_row_changed, public.check_plain_texts, public.check_figures,
  public.check_notes, public.entry_rules, public.create_strategy, public.list_strategies, public.get_strategy,
  public.set_strategy_status, public.delete_strategy
  from public, anon, authenticated;
grant execute on function
  public.normalize_exchange, public.guard_strategy, public.strategy_row_changed, public.check_plain_texts, public.check_figures,
  public.check_notes, public.entry_rules, public.create_strategy, public.list_strategies, public.get_strategy,
  public.set_strategy_status, public.delete_strategy
  to service_role;
