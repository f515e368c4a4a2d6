-- The rest of an exit may wait for what others do on the account. All that was done of it is in the books then, so that nothing
-- waits for it in turn.

alter table public.webhook_requests add column if not exists rest_waits boolean not null default false;
comment on column public.webhook_requests.rest_waits is
  'the exit is booked as far as it was made, and nothing of its rest has been sent; until the next order of it is about to leave';

-- Whether what a request did at its venue may not be in the books.
create or replace function public.is_unsettled(p_request public.webhook_requests) returns boolean
language sql stable set search_path = '' as $$
  select p_request.status in ('submitted', 'filled') and not p_request.rest_waits
$$;

-- An exit of which a part is booked waits with the rest, of which nothing was sent.
create or replace function public.note_rest_waits(p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.webhook_requests r set rest_waits = true
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status = 'filled';
  return to_jsonb(found);
end
$$;

-- As before; the order may be the rest of an exit that has waited.
create or replace function public.submit_request(p_server text, p_request_id text, p_user_id uuid) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  -- Whoever takes the lease over waits for the end of this transaction, and finds the request submitted.
  perform from public.leases l where l.name = 'webhook' for share;
  if not public.has_lease(p_server) then
    return to_jsonb(false);
  end if;
  update public.webhook_requests r set status = case r.status when 'received' then 'submitted' else r.status end, rest_waits = false
    where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  return to_jsonb(found);
end
$$;

-- As before, without requests that only wait with a rest.
create or replace function public.venue_facts(p_user_id uuid, p_exchange text, p_symbol text) returns jsonb
language plpgsql stable security definer set search_path = '' as $$
declare
  v_record public.venue_records;
  v_first timestamptz;
  v_since timestamptz;
begin
  select * into v_record from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol;
  select min(p.created_at) into v_first from public.positions p
    where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper;
  v_since := least(v_first, v_record.updated_at) - interval '1 day'; -- a day, for clocks that differ
  return jsonb_build_object(
    'positions', coalesce((
      select jsonb_agg(public.position_json(p) order by p.entry_time, p.id) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ), '[]'),
    'order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and not starts_with(f.request_id, 'venue/')
    ), '[]'),
    'outside_order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and starts_with(f.request_id, 'venue/')
    ), '[]'),
    'forced_order_ids', coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
        and f.created_at >= v_since and f.order_id is not null and f.request_id like 'venue/%/0/%'
    ), '[]'),
    'first_ms', (
      select min(coalesce(p.entry_market_time_ms, (extract(epoch from p.created_at) * 1000)::bigint)) from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ),
    'last_trade_id', v_record.last_trade_id,
    'unbooked_net', coalesce(v_record.outside_net, 0),
    'costs_until_ms', coalesce(v_record.costs_until_ms, 0),
    'outside_net', public.outside_net(p_user_id, p_exchange, p_symbol),
    'read_ms', coalesce(v_record.read_ms, 0),
    'cost_ids', coalesce((
      select jsonb_agg(c.income_id) from public.liquidation_costs c
      where c.user_id = p_user_id and c.exchange = p_exchange and c.symbol = p_symbol
    ), '[]'),
    'last_fill_ms', coalesce((
      select f.market_time_ms from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
      order by f.id desc limit 1
    ), 0),
    'unsettled', coalesce((
      select jsonb_agg(r.request_id) from public.webhook_requests r
      where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and public.is_unsettled(r)
    ), '[]'),
    'last_fill_id', coalesce((
      select max(f.id) from public.fills f
      where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
    ), 0)
  );
end
$$;

create or replace function public.venue_facts_differ(
  p_user_id uuid, p_exchange text, p_symbol text, p_request_id text, p_seen jsonb
) returns boolean
language sql stable set search_path = '' as $$
  select exists (
    select from (
      select p.id::text as id, p.quantity from public.positions p
      where p.user_id = p_user_id and lower(p.exchange) = p_exchange and p.symbol = p_symbol and not p.is_paper
    ) held full join jsonb_each_text(p_seen -> 'positions') seen on seen.key = held.id
    where held.quantity is distinct from seen.value::numeric
  ) or exists (
    select from public.webhook_requests r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol and public.is_unsettled(r)
      and r.request_id is distinct from p_request_id
  ) or exists (
    select from public.fills f
    where f.user_id = p_user_id and f.exchange = p_exchange and f.symbol = p_symbol and not f.is_paper
      and f.id > (p_seen ->> 'last_fill_id')::bigint
  ) or exists ( -- somebody else has read on
    select from public.venue_records r
    where r.user_id = p_user_id and r.exchange = p_exchange and r.symbol = p_symbol
      and r.last_trade_id is distinct from (p_seen ->> 'last_trade_id')::bigint
  )
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array[
    'public.is_unsettled(public.webhook_requests)', 'public.note_rest_waits(text, uuid)', 'public.submit_request(text, text, uuid)',
    'public.venue_facts(uuid, text, text)', 'public.venue_facts_differ(uuid, text, text, text, jsonb)'
  ]::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
