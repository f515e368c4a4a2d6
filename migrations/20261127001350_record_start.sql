-- From when on the account's record of a symbol counts: the first live entry since books and venue were last seen equal and empty. A
-- position that ends takes nothing of that with it, so that what others did before a younger one was opened is read still.

alter table public.venue_records add column if not exists since_ms bigint; -- null: the oldest position

-- As before; and the first live entry begins the record of its symbol, which is not read yet (up to trade 0).
create or replace function public.insert_fill(p_request_id text, p_user_id uuid, p_fill jsonb) returns public.fills
language sql set search_path = '' as $$
  insert into public.venue_records (user_id, exchange, symbol, last_trade_id, outside_net, since_ms)
    select p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol', 0,
      public.outside_net(p_user_id, p_fill ->> 'exchange', p_fill ->> 'symbol'),
      coalesce((p_fill ->> 'market_time_ms')::bigint, (extract(epoch from clock_timestamp()) * 1000)::bigint)
    where p_fill ->> 'kind' = 'open' and not (p_fill ->> 'is_paper')::boolean
    on conflict (user_id, exchange, symbol) do nothing;
  insert into public.fills (
    user_id, request_id, kind, strategy_id, exchange, symbol, side, quantity, price, fee_usd, leverage, is_paper, order_id,
    client_order_id, market_time_ms
  ) values (
    p_user_id, p_request_id, p_fill ->> 'kind', (p_fill ->> 'strategy_id')::uuid, p_fill ->> 'exchange',
    p_fill ->> 'symbol', p_fill ->> 'side', (p_fill ->> 'quantity')::numeric, (p_fill ->> 'price')::numeric,
    (p_fill ->> 'fee_usd')::numeric, (p_fill ->> 'leverage')::integer, (p_fill ->> 'is_paper')::boolean,
    p_fill ->> 'order_id', p_fill ->> 'client_order_id', (p_fill ->> 'market_time_ms')::bigint
  ) returning *
$$;

-- venue_facts with the start of the record, and with what each booked order did: `order_positions` ({our order: position}) and
-- `booked_outside` ({order of others: {quantity, value_usd, until_ms}}).
create or replace function public.symbol_facts(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_facts jsonb := public.venue_facts(p_user_id, p_exchange, p_symbol);
  v_record public.venue_records;
begin
  select * into v_record from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  return v_facts || jsonb_build_object(
    'first_ms', least((v_facts ->> 'first_ms')::bigint, v_record.since_ms),
    'unbooked_net', coalesce(v_record.outside_net, public.outside_net(p_user_id, p_exchange, p_symbol)),
    'order_positions', coalesce((
      select jsonb_object_agg(f.order_id, f.position_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.position_id is not null and v_facts -> 'order_ids' ? f.order_id
    ), '{}'),
    'booked_outside', coalesce((
      select jsonb_object_agg(b.order_id, to_jsonb(b) - 'order_id') from (
        select f.order_id, sum(f.quantity) as quantity, sum(f.quantity * f.price) as value_usd, max(f.market_time_ms) as until_ms
        from public.fills f
        where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
          and starts_with(f.request_id, 'venue/') and v_facts -> 'outside_order_ids' ? f.order_id
        group by f.order_id
      ) b
    ), '{}')
  );
end
$$;

-- Every account that can trade live; `has_record` where something was held live since it was last seen empty.
create or replace function public.live_accounts() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'user_id', a.user_id, 'exchange', a.exchange, 'has_record', exists (
      select from public.venue_records r where r.user_id = a.user_id and r.exchange = a.exchange
    )
  )), '[]')
  from (
    select c.user_id, lower(c.exchange) as exchange from public.bot_credentials c
      where c.exchange <> 'webhook' and (c.api_key is not null or c.extra_metadata ->> 'private_key' is not null)
    union
    select p.user_id, lower(p.exchange) from public.positions p where not p.is_paper
  ) a
$$;

revoke execute on function public.symbol_facts(uuid, text, text) from public, anon, authenticated;
grant execute on function public.symbol_facts(uuid, text, text) to service_role;

notify pgrst, 'reload schema';
