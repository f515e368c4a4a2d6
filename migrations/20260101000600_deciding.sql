-- What the engine asks of the database: which strategies run, all that one cycle needs, and the record of its decision.
-- Every function returns one jsonb. SQLSTATE SK404 (no such row), SK409 (state forbids it) and SK400 (bad argument) are ours.

-- Banker's rounding, as Python's Decimal does it; round() goes away from zero.
create or replace function public.round_half_even(p_value numeric, p_places integer) returns numeric
language sql immutable strict set search_path = '' as $$
  select case
    when abs(p_value * 10::numeric ^ p_places - trunc(p_value * 10::numeric ^ p_places)) = 0.5
      and trunc(p_value * 10::numeric ^ p_places) % 2 = 0
    then trunc(p_value, p_places)
    else round(p_value, p_places)
  end
$$;

-- Rows of the original system say BUY and SELL, and spell an exchange in any way.
create or replace function public.position_side(p_side text) returns text
language sql immutable set search_path = '' as $$
  select case upper(p_side) when 'BUY' then 'LONG' when 'SELL' then 'SHORT' else upper(p_side) end
$$;

create or replace function public.position_json(p public.positions) returns jsonb
language sql stable set search_path = '' as $$
  select to_jsonb(p) || jsonb_build_object(
    'side', public.position_side(p.side),
    'exchange', lower(p.exchange),
    'entry_time', coalesce(p.entry_time, p.created_at),
    'position_size_usd', coalesce(p.position_size_usd, p.entry_price * p.quantity)
  )
$$;

create or replace function public.open_positions(
  p_user_id uuid default null, p_strategy_id uuid default null, p_exchange text default null
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(public.position_json(p) order by p.entry_time, p.id), '[]')
  from public.positions p
  where (p_user_id is null or p.user_id = p_user_id)
    and (p_strategy_id is null or p.strategy_id = p_strategy_id)
    and (p_exchange is null or lower(p.exchange) = p_exchange)
$$;

-- Equity = capital + realised P&L + unrealised P&L; unrealised P&L is net of the entry fees, which are already paid.
create or replace function public.strategy_figures(
  p_strategy_id uuid, p_is_paper boolean, p_capital_usd numeric,
  out realized_pnl_usd numeric, out unrealized_pnl_usd numeric, out equity_usd numeric,
  out peak_equity_usd numeric, out drawdown_percent numeric
)
language plpgsql stable security definer set search_path = '' as $$
declare
  v_peak_pnl numeric := 0;
begin
  select l.realized_pnl_usd, l.peak_pnl_usd into realized_pnl_usd, v_peak_pnl
    from public.strategy_ledger l where l.strategy_id = p_strategy_id and l.is_paper = p_is_paper;
  if not found then -- trades of the original system have no ledger yet
    select coalesce(sum(t.pnl_usd), 0) into realized_pnl_usd
      from public.trades t where t.strategy_id = p_strategy_id and t.is_paper = p_is_paper;
    v_peak_pnl := 0;
  end if;
  select coalesce(sum(coalesce(p.unrealized_pnl_usd, -p.fees_usd)), 0) into unrealized_pnl_usd
    from public.positions p where p.strategy_id = p_strategy_id and p.is_paper = p_is_paper;
  equity_usd := p_capital_usd + realized_pnl_usd + unrealized_pnl_usd;
  peak_equity_usd := p_capital_usd + greatest(v_peak_pnl, realized_pnl_usd + unrealized_pnl_usd);
  drawdown_percent := round(greatest(0, peak_equity_usd - equity_usd) * 100 / nullif(peak_equity_usd, 0), 6);
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

create or replace function public.suppression(p_strategy public.ai_strategies) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_drawdown numeric;
begin
  if p_strategy.status <> 'running' then
    return 'the strategy is ' || p_strategy.status;
  end if;
  select f.drawdown_percent into v_drawdown
    from public.strategy_figures(p_strategy.id, p_strategy.is_paper_trading, p_strategy.capital_usd) f;
  if coalesce(v_drawdown >= p_strategy.max_drawdown_percent, true) then -- what is not known is beyond it
    return format('a drawdown of %s %% is beyond the limit of %s %%', round(v_drawdown, 2), p_strategy.max_drawdown_percent);
  end if;
  return null;
end
$$;

-- One transaction: the log row, what it cost, and the signal. The strategy's row is locked, so its signals are numbered in order.
create or replace function public.record_decision(
  p_decision_id uuid, p_strategy_id uuid, p_record jsonb, p_signal jsonb default null
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_strategy public.ai_strategies;
  v_signal jsonb := nullif(p_signal, 'null'::jsonb);
  v_suppressed text;
  v_cost numeric := coalesce((p_record ->> 'cost_usd')::numeric, 0);
begin
  select * into v_strategy from public.ai_strategies s where s.id = p_strategy_id for no key update;
  if not found then
    raise exception 'there is no strategy %', p_strategy_id using errcode = 'SK404';
  end if;
  if v_signal ->> 'action' <> 'CLOSE' then
    v_suppressed := public.suppression(v_strategy);
  end if;
  insert into public.ai_trade_log (
    id, ai_strategy_id, user_id, decision_json, confidence_score, signal_action, symbol, size_usd, reasoning, reason, is_fault,
    suppressed, raw_answer, model, request_id, prompt_tokens, cached_tokens, completion_tokens, cost_usd, latency_s,
    stop_loss_percent, take_profit_percent, market, created_at
  ) values (
    p_decision_id, v_strategy.id, v_strategy.user_id, p_record - array['raw_answer', 'market'],
    (p_record ->> 'confidence')::numeric, p_record ->> 'action', p_record ->> 'symbol', (p_record ->> 'size_usd')::numeric,
    left(p_record ->> 'reasoning', 100), p_record ->> 'reason', coalesce((p_record ->> 'is_fault')::boolean, false),
    v_suppressed, p_record ->> 'raw_answer', p_record ->> 'model', p_record ->> 'request_id',
    (p_record ->> 'prompt_tokens')::integer, (p_record ->> 'cached_tokens')::integer,
    (p_record ->> 'completion_tokens')::integer, (p_record ->> 'cost_usd')::numeric,
    (p_record ->> 'latency_s')::double precision, (p_record ->> 'stop_loss_percent')::numeric,
    (p_record ->> 'take_profit_percent')::numeric, nullif(p_record -> 'market', 'null'::jsonb), clock_timestamp()
  ) on conflict (id) do nothing;
  if not found then
    return public.recorded_decision(p_decision_id, p_strategy_id);
  end if;
  insert into public.llm_spend as l (strategy_id, day, decisions, cost_usd)
    values (p_strategy_id, (now() at time zone 'UTC')::date, 1, v_cost)
    on conflict (strategy_id, day) do update
    set decisions = l.decisions + 1, cost_usd = l.cost_usd + excluded.cost_usd;
  if v_signal is not null and v_suppressed is null then
    perform public.queue_signal(p_decision_id, v_strategy, v_signal);
    return jsonb_build_object('decision_id', p_decision_id, 'signal_id', p_decision_id, 'suppressed', null);
  end if;
  return jsonb_build_object('decision_id', p_decision_id, 'signal_id', null, 'suppressed', v_suppressed);
end
$$;

create or replace function public.recorded_decision(p_decision_id uuid, p_strategy_id uuid) returns jsonb
language plpgsql stable set search_path = '' as $$
declare
  v_recorded jsonb;
begin
  select jsonb_build_object('decision_id', l.id, 'signal_id', o.id, 'suppressed', l.suppressed) into v_recorded
    from public.ai_trade_log l left join public.signal_outbox o on o.id = l.id
    where l.id = p_decision_id and l.ai_strategy_id = p_strategy_id;
  if not found then
    raise exception 'decision % belongs to another strategy', p_decision_id using errcode = 'SK409';
  end if;
  return v_recorded;
end
$$;

-- The payload is the body of POST /webhook/ai-signal; the dispatcher adds the signature, no secret is ever stored here.
create or replace function public.queue_signal(
  p_signal_id uuid, p_strategy public.ai_strategies, p_signal jsonb
) returns void
language plpgsql set search_path = '' as $$
declare
  v_now timestamptz := clock_timestamp();
  v_expires_at timestamptz := v_now + make_interval(secs => (p_signal ->> 'ttl_s')::double precision);
begin
  insert into public.signal_outbox (
    id, user_id, strategy_id, exchange, symbol, action, is_paper, next_attempt_at, created_at, expires_at, payload
  ) values (
    p_signal_id, p_strategy.user_id, p_strategy.id, p_signal ->> 'exchange', p_signal ->> 'symbol', p_signal ->> 'action',
    coalesce(p_strategy.is_paper_trading, true), v_now, v_now, v_expires_at,
    jsonb_build_object(
      'user_id', p_strategy.user_id,
      'exchange', p_signal ->> 'exchange',
      'symbol', p_signal ->> 'symbol',
      'action', p_signal ->> 'action',
      'position_size_usd', (p_signal ->> 'size_usd')::numeric,
      'strategy_id', p_strategy.id,
      'source', 'ai_engine_v1',
      'ai_confidence', (p_signal ->> 'confidence')::numeric,
      'ai_reasoning', p_signal ->> 'reasoning',
      'stop_loss_percent', (p_signal ->> 'stop_loss_percent')::numeric,
      'take_profit_percent', (p_signal ->> 'take_profit_percent')::numeric,
      'signal_id', p_signal_id,
      'expires_at', to_char(v_expires_at at time zone 'UTC', 'YYYY-MM-DD"T"HH24:MI:SS.US"Z"')
    )
  );
end
$$;

create or replace function public.pause_strategy(p_strategy_id uuid, p_reason text, p_traceback text default null) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.ai_strategies
    set status = 'paused', paused_reason = left(p_reason, 1000), paused_at = clock_timestamp(),
        paused_traceback = left(p_traceback, 20000)
    where id = p_strategy_id and status = 'running';
  return to_jsonb(found);
end
$$;
