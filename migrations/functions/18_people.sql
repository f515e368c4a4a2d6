-- What people ask: who they are, what their strategies do, and what became of every decision and signal.

-- The person with an address, made if there is none: 254 characters are the most that an address can have (RFC 5321).
-- auth.users is
-- Supabase's own table, whose rows come from its own service.
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

-- Looks a person up without creating one.
create or replace function public.find_user(p_email text) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(u.id) from auth.users u where lower(u.email) = lower(p_email) order by u.created_at limit 1
$$;

-- A person's address, or null.
create or replace function public.user_email(p_user_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb((select u.email from auth.users u where u.id = p_user_id))
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
  cross join lateral public.strategy_equity(s.id, s.is_paper_trading, s.capital_usd) f
  left join public.llm_spend l on l.strategy_id = s.id and l.day = (now() at time zone 'UTC')::date
  where s.status <> 'terminated'
$$;

create or replace function public.decisions(p_strategy_id uuid default null, p_limit integer default 50) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) - array['raw_answer', 'market', 'decision_json'] order by d.created_at desc, d.id), '[]')
  from (
    select l.*, s.name as strategy_name from public.ai_trade_log l join public.ai_strategies s on s.id = l.ai_strategy_id
    where p_strategy_id is null or l.ai_strategy_id = p_strategy_id
    order by l.created_at desc, l.id limit least(p_limit, 10000)
  ) d
$$;

-- A decision with everything that followed from it. Its signal and its webhook request carry the decision's own id.
create or replace function public.decision_trace(p_decision_id uuid) returns jsonb
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

create or replace function public.signals(
  p_strategy_id uuid default null, p_status text default null, p_limit integer default 50
) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) order by d.seq desc), '[]')
  from (
    select o.*, s.name as strategy_name from public.signal_outbox o join public.ai_strategies s on s.id = o.strategy_id
    where (p_strategy_id is null or o.strategy_id = p_strategy_id) and (p_status is null or o.status = p_status)
    order by o.seq desc limit least(p_limit, 10000)
  ) d
$$;

create or replace function public.signal(p_signal_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select to_jsonb(o) || jsonb_build_object('strategy_name', s.name, 'history', coalesce((
    select jsonb_agg(to_jsonb(a) order by a.id) from public.signal_attempts a where a.signal_id = o.id
  ), '[]'))
  from public.signal_outbox o join public.ai_strategies s on s.id = o.strategy_id where o.id = p_signal_id
$$;

create or replace function public.trades(p_strategy_id uuid default null, p_limit integer default 50) returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(to_jsonb(d) || jsonb_build_object('side', public.position_side(d.side)) order by d.exit_time desc, d.id), '[]')
  from (
    select t.*, s.name as strategy_name from public.trades t left join public.ai_strategies s on s.id = t.strategy_id
    where p_strategy_id is null or t.strategy_id = p_strategy_id
    order by t.exit_time desc, t.id limit least(p_limit, 10000)
  ) d
$$;

revoke execute on function
  public.ensure_user, public.find_user, public.user_email, public.strategy_overview, public.decisions, public.decision_trace,
  public.signals, public.signal, public.trades
  from public, anon, authenticated;
grant execute on function
  public.ensure_user, public.find_user, public.user_email, public.strategy_overview, public.decisions, public.decision_trace,
  public.signals, public.signal, public.trades
  to service_role;
