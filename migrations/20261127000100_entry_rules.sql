-- What an entry must satisfy, whatever the model says. null in a column means: as the risk profile says, and `entry_rules` is
-- the only place that knows what it says. The prompt, the engine and the webhook server are given what it returns.

alter table public.ai_strategies
  add column if not exists stop_loss_required boolean,
  add column if not exists max_entry_percent numeric(5, 2) check (max_entry_percent > 0 and max_entry_percent <= 100),
  add column if not exists adding text check (adding in ('never', 'to_winner', 'always')),
  add column if not exists min_stop_loss_percent numeric(6, 4)
    check (min_stop_loss_percent >= 0 and min_stop_loss_percent < 50);

comment on column public.ai_strategies.stop_loss_required is
  'whether an entry without stop_loss_percent is held; null: as the risk profile says';
comment on column public.ai_strategies.max_entry_percent is
  'the share of max_position_usd that one entry may have, above 0 and up to 100; null: as the risk profile says';
comment on column public.ai_strategies.adding is
  'whether an entry may add to a position: never, to_winner, always; null: as the risk profile says';
comment on column public.ai_strategies.min_stop_loss_percent is
  'the least distance of a stop from the entry in percent, 0 to below 50; null: as the risk profile says';

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

revoke execute on function public.entry_rules(public.ai_strategies) from public, anon, authenticated;
grant execute on function public.entry_rules(public.ai_strategies) to service_role;

-- As before, and the strategy with the rules in force.
create or replace function public.strategy_context(p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'strategy', to_jsonb(s) || jsonb_build_object('rules', public.entry_rules(s)),
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id)
      from public.positions p where p.strategy_id = s.id and p.is_paper = s.is_paper_trading
    ), '[]'),
    'equity_usd', f.equity_usd,
    'peak_equity_usd', f.peak_equity_usd,
    'drawdown_percent', f.drawdown_percent,
    'llm_spent_today_usd', spent.own,
    'llm_spent_today_by_all_usd', spent.by_all
  )
  from public.ai_strategies s
  cross join lateral public.strategy_figures(s.id, s.is_paper_trading, s.capital_usd) f
  cross join lateral (
    select coalesce(sum(l.cost_usd) filter (where l.strategy_id = s.id), 0) as own, coalesce(sum(l.cost_usd), 0) as by_all
    from public.llm_spend l where l.day = (now() at time zone 'UTC')::date
  ) spent
  where s.id = p_strategy_id
$$;

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
    context_intervals, stop_loss_required, max_entry_percent, adding, min_stop_loss_percent
  ) values (
    v_strategy.user_id, v_strategy.name, v_strategy.status, v_strategy.risk_profile, v_strategy.target_assets,
    v_strategy.exchange, v_strategy.is_paper_trading, v_strategy.cadence_seconds, v_strategy.min_confidence,
    v_strategy.max_drawdown_percent, v_strategy.leverage_max, v_strategy.max_position_usd, v_strategy.capital_usd,
    v_strategy.daily_llm_budget_usd, v_strategy.model, v_strategy.custom_prompt, coalesce(v_strategy.context_intervals, '{}'),
    v_strategy.stop_loss_required, v_strategy.max_entry_percent, v_strategy.adding, v_strategy.min_stop_loss_percent
  ) returning * into v_strategy;
  return to_jsonb(v_strategy);
end
$$;

-- People set them like the other limits of their strategies.
grant insert (stop_loss_required, max_entry_percent, adding, min_stop_loss_percent) on public.ai_strategies to authenticated;
grant update (stop_loss_required, max_entry_percent, adding, min_stop_loss_percent) on public.ai_strategies to authenticated;

notify pgrst, 'reload schema';
