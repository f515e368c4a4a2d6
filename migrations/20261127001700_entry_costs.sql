-- The limits of spread and slippage that a person has set are among what the risk checks need.

-- Everything the risk checks need, in one view. What only a limit would look at is read only if there is that limit; what is
-- about a symbol, only of a live entry into `p_symbol`.
create or replace function public.portfolio(
  p_user_id uuid, p_exchange text, p_strategy_id uuid, p_is_paper boolean, p_symbol text default null
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
  v_undone bigint := case when p_is_paper then 0 end;
  v_undone_at timestamptz;
begin
  -- The original system lets several rows be about one exchange, in any spelling: the strictest counts.
  select count(*) as number, bool_or(s.kill_switch) as kill_switch, bool_and(s.allow_weekends) as allow_weekends,
      min(nullif(s.max_signal_age_sec, 0)) as max_signal_age_sec, min(nullif(s.max_daily_loss_usd, 0)) as max_daily_loss_usd,
      min(nullif(s.max_loss_per_week_usd, 0)) as max_loss_per_week_usd,
      min(nullif(s.max_trades_per_week, 0)) as max_trades_per_week,
      min(nullif(s.max_consecutive_failures, 0)) as max_consecutive_failures,
      min(nullif(s.max_concurrent_positions, 0)) as max_concurrent_positions,
      min(nullif(s.max_position_size_usd, 0)) as max_position_size_usd,
      min(nullif(s.max_spread_percent, 0)) as max_spread_percent, min(nullif(s.max_slippage_percent, 0)) as max_slippage_percent
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
    v_failures := coalesce(public.consecutive_failures(p_user_id, p_exchange, p_is_paper), 0);
  end if;
  if not p_is_paper and p_symbol is not null then
    select u.number, u.last_at into v_undone, v_undone_at from public.undone_in_a_row(p_user_id, p_exchange, p_symbol) u;
  end if;
  return jsonb_build_object(
    'now', clock_timestamp(),
    'killed_by', public.killed_by(p_user_id, p_strategy_id),
    'settings', case when v_limits.number > 0 then to_jsonb(v_limits) end,
    'realized_pnl_today_usd', v_today,
    'realized_pnl_week_usd', v_week_pnl,
    'trades_this_week', v_entries,
    'consecutive_failures', v_failures,
    'undone_in_symbol', v_undone,
    'last_undone_at', v_undone_at,
    'difference', (
      select jsonb_build_object('booked', d.booked, 'at_venue', d.at_venue, 'first_seen_at', d.first_seen_at)
      from public.reconciliation_differences d
      where not p_is_paper and d.user_id = p_user_id and d.exchange = p_exchange and d.symbol = p_symbol
        and d.resolved_at is null
    ),
    'open_position_count', (
      select count(*) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.is_paper = p_is_paper
    ),
    'open_positions', public.own_positions(p_user_id, p_exchange, p_strategy_id, null, p_is_paper),
    'strategy', (
      select to_jsonb(s) - array['custom_prompt', 'paused_traceback']
        || jsonb_build_object(
          'equity_usd', f.equity_usd, 'drawdown_percent', f.drawdown_percent, 'rules', public.entry_rules(s)
        )
      from public.ai_strategies s
      cross join lateral public.strategy_figures(s.id, p_is_paper, s.capital_usd) f
      where s.id = p_strategy_id and s.user_id = p_user_id
    )
  );
end
$$;

do $$
begin
  revoke execute on function public.portfolio(uuid, text, uuid, boolean, text) from public, anon, authenticated;
  grant execute on function public.portfolio(uuid, text, uuid, boolean, text) to service_role;
end
$$;

notify pgrst, 'reload schema';
