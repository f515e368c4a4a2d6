-- A position knows the venue's numbers of the orders that its booked exits were: a stop that was cut to what the account held, and
-- is found filled again as long as nothing else waits under its name, is no second exit.

create index if not exists fills_exit_orders_idx on public.fills (position_id, order_id) where kind <> 'open' and not is_paper;

create or replace function public.position_json(p public.positions) returns jsonb
language sql stable set search_path = '' as $$
  select to_jsonb(p) || jsonb_build_object(
    'side', public.position_side(p.side),
    'exchange', lower(p.exchange),
    'entry_time', coalesce(p.entry_time, p.created_at),
    'position_size_usd', coalesce(p.position_size_usd, p.entry_price * p.quantity),
    'exit_order_ids', case when p.is_paper then '[]' else coalesce((
      select jsonb_agg(distinct f.order_id) from public.fills f
      where f.position_id = p.id and f.kind <> 'open' and not f.is_paper and f.order_id is not null
    ), '[]') end
  )
$$;

notify pgrst, 'reload schema';
