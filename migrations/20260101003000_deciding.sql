-- Deciding: longer candles beside the minute's, what the whole host has spent today, when a row was last resumed, and a
-- decision told from what the model saw to what became of it.

alter table public.ai_strategies
  add column if not exists context_intervals text[] not null default '{}'
    check (context_intervals <@ array['15m', '1h'] and cardinality(context_intervals) <= 2),
  add column if not exists running_since timestamptz;

grant insert (context_intervals), update (context_intervals) on public.ai_strategies to authenticated;

create index if not exists llm_spend_day_idx on public.llm_spend (day);

-- running_since tells one run of a row from the next: resuming it clears the engine's count of its failures.
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

create or replace function public.running_strategies() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', s.id,
    'user_id', s.user_id,
    'name', coalesce(s.name, ''),
    'cadence_seconds', coalesce(s.cadence_seconds, 45),
    'model', s.model,
    'revision', to_char(s.updated_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
  ) order by s.created_at, s.id), '[]')
  from public.ai_strategies s
  where s.status = 'running'
$$;

create or replace function public.strategy_context(p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'strategy', to_jsonb(s),
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
    context_intervals
  ) values (
    v_strategy.user_id, v_strategy.name, v_strategy.status, v_strategy.risk_profile, v_strategy.target_assets,
    v_strategy.exchange, v_strategy.is_paper_trading, v_strategy.cadence_seconds, v_strategy.min_confidence,
    v_strategy.max_drawdown_percent, v_strategy.leverage_max, v_strategy.max_position_usd, v_strategy.capital_usd,
    v_strategy.daily_llm_budget_usd, v_strategy.model, v_strategy.custom_prompt, coalesce(v_strategy.context_intervals, '{}')
  ) returning * into v_strategy;
  return to_jsonb(v_strategy);
end
$$;

create or replace function public.strategy_overview() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', s.id, 'name', s.name, 'status', s.status, 'paused_reason', s.paused_reason, 'paused_at', s.paused_at,
    'exchange', s.exchange, 'is_paper_trading', s.is_paper_trading,
    'last_decision', (
      select jsonb_build_object(
        'id', l.id, 'action', l.signal_action, 'symbol', l.symbol, 'confidence', l.confidence_score, 'reason', l.reason,
        'at', l.created_at
      ) from public.ai_trade_log l where l.ai_strategy_id = s.id order by l.created_at desc limit 1
    ),
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id)
      from public.positions p where p.strategy_id = s.id and p.is_paper = s.is_paper_trading
    ), '[]'),
    'realized_pnl_usd', f.realized_pnl_usd, 'unrealized_pnl_usd', f.unrealized_pnl_usd, 'equity_usd', f.equity_usd,
    'peak_equity_usd', f.peak_equity_usd, 'drawdown_percent', f.drawdown_percent,
    'llm_cost_today_usd', coalesce(l.cost_usd, 0), 'llm_decisions_today', coalesce(l.decisions, 0),
    'daily_llm_budget_usd', s.daily_llm_budget_usd
  ) order by s.created_at, s.id), '[]')
  from public.ai_strategies s
  cross join lateral public.strategy_figures(s.id, s.is_paper_trading, s.capital_usd) f
  left join public.llm_spend l on l.strategy_id = s.id and l.day = (now() at time zone 'UTC')::date
  where s.status <> 'terminated'
$$;

-- A decision with everything that followed from it. Its signal and its webhook request carry the decision's own id.
create or replace function public.decision_story(p_decision_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'decision', to_jsonb(l) || jsonb_build_object('strategy_name', s.name),
    'signal', (
      select to_jsonb(o) || jsonb_build_object('strategy_name', s.name) from public.signal_outbox o where o.id = l.id
    ),
    'attempts', coalesce((
      select jsonb_agg(to_jsonb(a) order by a.id) from public.signal_attempts a where a.signal_id = l.id
    ), '[]'),
    'request', (
      select to_jsonb(w) from public.webhook_requests w where w.user_id = l.user_id and w.request_id = l.id::text
    ),
    'fills', coalesce((
      select jsonb_agg(to_jsonb(f) order by f.id)
      from public.fills f where f.user_id = l.user_id and f.request_id = l.id::text
    ), '[]'),
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id)
      from public.positions p where p.user_id = l.user_id and p.decision_id = l.id
    ), '[]'),
    'trades', coalesce((
      select jsonb_agg(
        to_jsonb(t) || jsonb_build_object('side', public.position_side(t.side), 'strategy_name', s.name)
        order by t.exit_time, t.id
      )
      from public.trades t where t.user_id = l.user_id and (t.decision_id = l.id or t.request_id = l.id::text)
    ), '[]')
  )
  from public.ai_trade_log l join public.ai_strategies s on s.id = l.ai_strategy_id
  where l.id = p_decision_id
$$;

revoke execute on function public.decision_story(uuid) from public, anon, authenticated;
grant execute on function public.decision_story(uuid) to service_role;
