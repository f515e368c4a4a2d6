-- What the risk checks read, in one view, and the kill switch above all limits.

create or replace function public.set_kill_switch(
  p_user_id uuid, p_strategy_id uuid, p_is_on boolean, p_reason text default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  if p_is_on then
    insert into public.kill_switches (user_id, strategy_id, reason) values (p_user_id, p_strategy_id, left(p_reason, 500))
      on conflict do nothing;
  else
    delete from public.kill_switches k
      where k.user_id is not distinct from p_user_id and k.strategy_id is not distinct from p_strategy_id;
  end if;
  return to_jsonb(found);
end
$$;

create or replace function public.kill_switches() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(k) || jsonb_build_object('email', u.email, 'strategy_name', s.name) order by k.created_at), '[]')
  from public.kill_switches k
  left join auth.users u on u.id = k.user_id
  left join public.ai_strategies s on s.id = k.strategy_id
$$;

-- The widest switch that covers an entry; null when none does.
create or replace function public.killed_by(p_user_id uuid, p_strategy_id uuid) returns text
language sql stable set search_path = '' as $$
  select case when k.strategy_id is not null then 'strategy' when k.user_id is not null then 'user' else 'global' end
  from public.kill_switches k
  where (k.user_id is null and k.strategy_id is null) or k.user_id = p_user_id or k.strategy_id = p_strategy_id
  order by (k.user_id is null and k.strategy_id is null) desc, k.strategy_id nulls first limit 1
$$;

-- What an order's own strategy (or, without one, the person) holds; the symbol and the book narrow it if given.
create or replace function public.own_positions(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_symbol text default null, p_is_paper boolean default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]') from public.positions p
  where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.strategy_id is not distinct from p_strategy_id
    and (p_symbol is null or p.symbol = p_symbol) and (p_is_paper is null or p.is_paper = p_is_paper)
$$;

-- Failures since the last booked request, counting every attempt; an hour without one forgets them. Not those of the server's
-- own exits (named exit/...), which it repeats until they are made: one that cannot be made would refuse every entry.
create or replace function public.consecutive_failures(p_user_id uuid, p_exchange text) returns bigint
language sql stable set search_path = '' as $$
  with failed as (
    select r.failures, r.failed_at from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and not starts_with(r.request_id, 'exit/')
      and r.failed_at > coalesce((
      select max(b.processed_at) from public.webhook_requests b
      where b.user_id = p_user_id and b.exchange = p_exchange and b.status = 'booked'
    ), '-infinity')
  )
  select case when max(failed_at) > now() - interval '1 hour' then sum(failures) else 0 end from failed
$$;

-- Everything the risk checks need, in one view. What only a limit would look at is read only if there is that limit.
create or replace function public.portfolio(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_is_paper boolean
) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_day timestamptz := date_trunc('day', now() at time zone 'UTC') at time zone 'UTC';
  v_week timestamptz := date_trunc('week', now() at time zone 'UTC') at time zone 'UTC';
  v_limits record;
  v_today numeric;
  v_week_pnl numeric;
  v_entries bigint;
  v_failures bigint;
begin
  -- The original system lets several rows be about one exchange, in any spelling: the strictest counts.
  select count(*) as number, bool_or(s.kill_switch) as kill_switch, bool_and(s.allow_weekends) as allow_weekends,
      min(nullif(s.max_signal_age_sec, 0)) as max_signal_age_sec, min(nullif(s.max_daily_loss_usd, 0)) as max_daily_loss_usd,
      min(nullif(s.max_loss_per_week_usd, 0)) as max_loss_per_week_usd,
      min(nullif(s.max_trades_per_week, 0)) as max_trades_per_week,
      min(nullif(s.max_consecutive_failures, 0)) as max_consecutive_failures,
      min(nullif(s.max_concurrent_positions, 0)) as max_concurrent_positions,
      min(nullif(s.max_position_size_usd, 0)) as max_position_size_usd
    into v_limits from public.trade_settings_exchange s
    where s.user_id = p_user_id and lower(s.exchange) = lower(p_exchange);
  if v_limits.max_daily_loss_usd is not null or v_limits.max_loss_per_week_usd is not null then
    select coalesce(sum(t.pnl_usd) filter (where t.exit_time >= v_day), 0), coalesce(sum(t.pnl_usd), 0)
      into v_today, v_week_pnl from public.trades t
      where t.user_id = p_user_id and lower(t.exchange) = p_exchange and t.is_paper = p_is_paper and t.exit_time >= v_week;
  end if;
  if v_limits.max_trades_per_week is not null then
    select count(*) into v_entries from ( -- a position closed in parts is one entry
      select t.entry_time, t.symbol, t.strategy_id from public.trades t
        where t.user_id = p_user_id and lower(t.exchange) = p_exchange and t.is_paper = p_is_paper and t.entry_time >= v_week
      union
      select p.entry_time, p.symbol, p.strategy_id from public.positions p
        where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.is_paper = p_is_paper and p.entry_time >= v_week
    ) entries;
  end if;
  if v_limits.max_consecutive_failures is not null then
    v_failures := coalesce(public.consecutive_failures(p_user_id, p_exchange), 0);
  end if;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'killed_by', public.killed_by(p_user_id, p_strategy_id),
    'settings', case when v_limits.number > 0 then to_jsonb(v_limits) end,
    'realized_pnl_today_usd', v_today,
    'realized_pnl_week_usd', v_week_pnl,
    'trades_this_week', v_entries,
    'consecutive_failures', v_failures,
    'open_position_count', (
      select count(*) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.is_paper = p_is_paper
    ),
    'open_positions', public.own_positions(p_user_id, p_exchange, p_strategy_id, null, p_is_paper),
    'strategy', (
      select to_jsonb(s) - array['custom_prompt', 'paused_traceback']
        || jsonb_build_object('equity_usd', f.equity_usd, 'drawdown_percent', f.drawdown_percent)
      from public.ai_strategies s
      cross join lateral public.strategy_figures(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;
