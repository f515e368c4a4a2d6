-- Positions that nobody steers: their strategy does not run, has no row any more, or has turned to another book, exchange or
-- other symbols.

-- A strategy is asked about what it holds in its own book, and can only close on its exchange and in its symbols. What belongs to
-- no strategy is a person's own (a charting service's alert, say) and is not meant; a decision tells that it was a strategy's.
-- `why` is the status of the row, or gone, other book, other exchange, other symbols. Live positions come first.
create or replace function public.unattended_positions() returns jsonb
language sql stable security definer set search_path = '' as $$
  select coalesce(jsonb_agg(jsonb_build_object(
    'id', u.id, 'user_id', u.user_id, 'strategy_id', u.strategy_id, 'strategy_name', u.strategy_name, 'why', u.why,
    'since', u.since, 'exchange', lower(u.exchange), 'symbol', u.symbol, 'side', public.position_side(u.side),
    'quantity', u.quantity, 'entry_price', u.entry_price, 'entry_time', coalesce(u.entry_time, u.created_at),
    'stop_loss_price', u.stop_loss_price, 'take_profit_price', u.take_profit_price, 'is_paper', u.is_paper
  ) order by u.is_paper, u.entry_time, u.id), '[]')
  from (
    select p.*, s.name as strategy_name,
      case when s.status <> 'running' then coalesce(s.paused_at, s.updated_at) end as since,
      case
        when s.id is null then 'gone'
        when s.status <> 'running' then s.status
        when p.is_paper <> coalesce(s.is_paper_trading, true) then 'other book'
        when lower(p.exchange) <> lower(s.exchange) then 'other exchange'
        when not coalesce(p.symbol = any (s.target_assets), false) then 'other symbols'
      end as why
    from public.positions p left join public.ai_strategies s on s.id = p.strategy_id
    where p.strategy_id is not null or p.decision_id is not null
  ) u
  where u.why is not null
$$;

do $$
declare
  v_function regprocedure;
begin
  foreach v_function in array array['public.unattended_positions()']::regprocedure[]
  loop
    execute format('revoke execute on function %s from public, anon, authenticated', v_function);
    execute format('grant execute on function %s to service_role', v_function);
  end loop;
end
$$;

notify pgrst, 'reload schema';
