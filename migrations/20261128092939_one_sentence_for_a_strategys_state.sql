-- One sentence for a strategys state: functions as migrations/functions/ has them.

set check_function_bodies = off; -- a function may call one that is created further down

-- Why an entry must not be sent, or null: judged as `engine.risk.strategy_state` does, in the same words, because the row may have
-- changed since the cycle read it. What is not known (null, NaN, infinity) is no permission; NaN would be above every drawdown.
create or replace function public.entry_block_reason(p_strategy public.ai_strategies) returns text
language plpgsql stable set search_path = '' as $$
declare
  v_drawdown numeric;
  v_limit numeric := public.finite_or_null(p_strategy.max_drawdown_percent);
begin
  if p_strategy.status <> 'running' then
    return format('The strategy is %s: it may only close', p_strategy.status);
  end if;
  select public.finite_or_null(f.drawdown_percent) into v_drawdown
    from public.strategy_equity(p_strategy.id, p_strategy.is_paper_trading, p_strategy.capital_usd) f;
  if v_drawdown is null or v_limit is null then
    return 'The strategy''s drawdown, or its limit, is not known: it may only close';
  elsif v_drawdown >= v_limit then
    return format(
      'The strategy''s drawdown of %s %% has reached its limit of %s %%: it may only close', round(v_drawdown, 2), round(v_limit, 2)
    );
  end if;
  return null;
end
$$;

reset check_function_bodies;

notify pgrst, 'reload schema';
