-- What becomes of a request once its fills are booked: protection, the stored answer, its end.

-- Ends a booked entry: its protective orders are at the venue. The answer is given again on every repetition.
create or replace function public.book_protection(
  p_request_id text, p_user_id uuid, p_position_id uuid, p_protection jsonb, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
begin
  update public.positions p
    set stop_loss_price = coalesce((p_protection ->> 'stop_loss_price')::numeric, p.stop_loss_price),
        take_profit_price = coalesce((p_protection ->> 'take_profit_price')::numeric, p.take_profit_price),
        stop_loss_order_id = p_protection ->> 'stop_loss_order_id',
        take_profit_order_id = p_protection ->> 'take_profit_order_id',
        stop_loss_client_order_id = p_protection ->> 'stop_loss_client_order_id',
        take_profit_client_order_id = p_protection ->> 'take_profit_client_order_id'
    where p.id = p_position_id and p.user_id = p_user_id;
  if p_answer is not null and p_answer <> 'null'::jsonb then
    update public.webhook_requests r
      set status = 'booked', answer = p_answer, answer_status = p_status, error_message = null, processed_at = clock_timestamp()
      where r.user_id = p_user_id and r.request_id = p_request_id and r.status in ('received', 'submitted', 'filled');
  end if;
  return to_jsonb(true);
end
$$;

-- The stored answer is what the sender gets, now and on every repetition; a close adds its P&L to it, that of all legs of the
-- exit. Without an answer the request goes on: a reversal is a close and an open, an exit may be a close and its rest.
create or replace function public.store_response(
  p_id uuid, p_fill public.fills, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql set search_path = '' as $$
declare
  v_answer jsonb := nullif(p_answer, 'null'::jsonb);
begin
  if v_answer is not null and p_fill.trade_id is not null then
    v_answer := v_answer || public.response_pnl(p_fill);
  end if;
  update public.webhook_requests r
    set status = case when v_answer is null then 'filled' else 'booked' end, answer = v_answer, answer_status = p_status,
        error_message = null, processed_at = clock_timestamp()
    where r.id = p_id;
  return v_answer;
end
$$;

-- {pnl: {usd, percent}} of an exit, with the other legs of the same exit, what ended as dust among them.
create or replace function public.response_pnl(p_fill public.fills) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object('pnl', jsonb_build_object(
    'usd', public.round_half_even(coalesce(sum(t.pnl_usd), 0), 2),
    'percent', public.round_half_even(coalesce(
      round(sum(t.pnl_usd) * 100 / nullif(sum(t.position_size_usd), 0), 4), 0
    ), 2)
  ))
  from public.fills f join public.trades t on t.id = f.trade_id
  where f.user_id = p_fill.user_id and f.request_id = p_fill.request_id
    and case when p_fill.kind = 'undo' then f.kind = 'undo' else f.kind in ('close', 'rest', 'dust') end
$$;

create or replace function public.booked_fill(p_fill public.fills, p_answer jsonb) returns jsonb
language sql stable set search_path = '' as $$
  select jsonb_build_object(
    'position_id', p_fill.position_id, 'trade_id', p_fill.trade_id, 'pnl_usd', p_fill.pnl_usd,
    'pnl_percent', p_fill.pnl_percent, 'answer', p_answer
  )
$$;

-- Ends a request whose last fill is in the books, with the answer that its sender gets; that answer.
create or replace function public.finish_booked_request(
  p_request_id text, p_user_id uuid, p_status integer, p_answer jsonb
) returns jsonb
language plpgsql security definer set search_path = '' as $$
declare
  v_fill public.fills;
  v_request public.webhook_requests;
begin
  select * into v_request from public.webhook_requests r
    where r.user_id = p_user_id and r.request_id = p_request_id for update;
  select * into v_fill from public.fills f
    where f.user_id = p_user_id and f.request_id = p_request_id order by f.id desc limit 1;
  if v_request.status not in ('received', 'submitted', 'filled') or v_fill.id is null then
    return v_request.answer;
  end if;
  return public.store_response(v_request.id, v_fill, p_status, p_answer);
end
$$;

revoke execute on function
  public.book_protection, public.store_response, public.response_pnl, public.booked_fill, public.finish_booked_request
  from public, anon, authenticated;
grant execute on function
  public.book_protection, public.store_response, public.response_pnl, public.booked_fill, public.finish_booked_request
  to service_role;
