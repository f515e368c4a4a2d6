-- The margin of positions: the mode they were entered with, the price at which they are liquidated, and until when the market was
-- compared with them. Where margin is cross, the positions of one strategy on paper share what it has.

alter table public.positions
  add column if not exists liquidation_price numeric,
  add column if not exists watched_until_ms bigint;

comment on column public.positions.margin_mode is 'isolated or cross, as it was entered with; null: as the account had it';
comment on column public.positions.liquidation_price is 'on paper computed, live as the venue tells it; null: none, or not known';
comment on column public.positions.watched_until_ms is
  'the venue''s time up to which its candles were compared with stop, target and liquidation price; on paper only';

-- As before, with the margin mode.
create or replace function public.open_position(p_fill public.fills, p_details jsonb) returns public.positions
language sql set search_path = '' as $$
  insert into public.positions (
    user_id, exchange, symbol, side, strategy_id, is_paper, quantity, entry_price, entry_time, cost_usd, position_size_usd,
    fees_usd, leverage, margin_mode, stop_loss_price, take_profit_price, entry_order_id, entry_client_order_id,
    entry_market_time_ms, decision_id, asset_class, created_at
  ) values (
    p_fill.user_id, p_fill.exchange, p_fill.symbol, p_fill.side, p_fill.strategy_id, p_fill.is_paper, p_fill.quantity,
    p_fill.price, p_fill.created_at, trim_scale(p_fill.quantity * p_fill.price), trim_scale(p_fill.quantity * p_fill.price),
    p_fill.fee_usd, p_fill.leverage, p_details ->> 'margin_mode',
    (p_details ->> 'stop_loss_price')::numeric, (p_details ->> 'take_profit_price')::numeric, p_fill.order_id,
    p_fill.client_order_id, p_fill.market_time_ms,
    (select l.id from public.ai_trade_log l where l.id::text = p_fill.request_id and l.ai_strategy_id = p_fill.strategy_id),
    'crypto', p_fill.created_at
  ) returning *
$$;

-- The margin mode that an entry of the strategy wants, and which ones other live positions in the symbol were entered with.
create or replace function public.entry_margin(p_user_id uuid, p_exchange text, p_symbol text, p_strategy_id uuid) returns jsonb
language sql stable security definer set search_path = '' as $$
  select jsonb_build_object(
    'wanted', (select s.margin_mode from public.ai_strategies s where s.id = p_strategy_id and s.user_id = p_user_id),
    'others', coalesce((
      select jsonb_agg(jsonb_build_object('margin_mode', p.margin_mode, 'strategy_name', s.name))
      from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
        and p.margin_mode is not null and p.strategy_id is distinct from p_strategy_id
    ), '[]')
  )
$$;

-- What is needed beside a paper position to know whether it was liquidated: when it was last entered or added to (the venue's time),
-- and what its strategy has without it: capital and realised P&L, null without a strategy.
create or replace function public.paper_margins() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'position_id', p.id,
    'entered_ms', coalesce((
      select max(f.market_time_ms) from public.fills f where f.position_id = p.id and f.is_paper and f.kind = 'open'
    ), p.entry_market_time_ms),
    'wallet_usd', w.wallet_usd
  )), '[]')
  from public.positions p
  left join lateral (
    select s.capital_usd + public.figure(f.realized_pnl_usd) as wallet_usd
    from public.ai_strategies s cross join lateral public.strategy_figures(s.id, true, s.capital_usd) f
    where s.id = p.strategy_id
  ) w on true
  where p.is_paper
$$;

-- Notes of positions, by id: {"liquidation_price": …, "watched_until_ms": …}; what is not named stays. How many there were.
create or replace function public.note_margins(p_notes jsonb) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_count integer;
begin
  perform pg_advisory_xact_lock(hashtextextended('mark', 0)); -- as a marker: it cannot wait for one in a circle
  with held as (
    select p.id from public.positions p where p_notes ? p.id::text order by p.strategy_id, p.id for update
  )
  update public.positions p set
    liquidation_price = case when p_notes -> p.id::text ? 'liquidation_price'
      then (p_notes -> p.id::text ->> 'liquidation_price')::numeric else p.liquidation_price end,
    watched_until_ms = greatest(p.watched_until_ms, (p_notes -> p.id::text ->> 'watched_until_ms')::bigint)
    from held where p.id = held.id;
  get diagnostics v_count = row_count;
  return to_jsonb(v_count);
end
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.entry_margin(uuid, text, text, uuid)', 'public.paper_margins()', 'public.note_margins(jsonb)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
