-- Rows in every table, made as the release of commit 92d63f9 makes them: through its own functions where it has one. Its
-- migrations are those of 20260101, which are never edited. Signals live for thirty years, so that none expires in a test.

insert into auth.users (id, email, created_at) values
  ('10000000-0000-0000-0000-000000000001', 'first@example.org', '2026-01-02 03:04:05.678901+00'),
  ('10000000-0000-0000-0000-000000000002', 'second@example.org', '2026-01-03 00:00:00+00');

-- One that trades on paper, one live, one that was paused for its faults, one that is over.
insert into public.ai_strategies (
  id, user_id, name, status, risk_profile, target_assets, max_drawdown_percent, target_sharpe, leverage_max, is_paper_trading,
  exchange, cadence_seconds, min_confidence, max_position_usd, capital_usd, daily_llm_budget_usd, model, custom_prompt,
  context_intervals, running_since
) values
  ('20000000-0000-0000-0000-000000000001', '10000000-0000-0000-0000-000000000001', 'on paper', 'running', 'aggressive',
   '{BTCUSDT,ETHUSDT}', 55.50, 1.75, 20, true, 'Aster', 12.50, 0.625, 2500.75, 12345.67, 0.12345678, 'openai/gpt-oss-120b',
   E'two\nlines', '{15m,1h}', '2026-01-04 00:00:00+00'),
  ('20000000-0000-0000-0000-000000000002', '10000000-0000-0000-0000-000000000001', 'live', 'running', 'balanced',
   '{BTCUSDT}', 20, null, 5, false, 'aster', 45, 0.6, 1000, 10000, null, null, null, '{}', null),
  ('20000000-0000-0000-0000-000000000003', '10000000-0000-0000-0000-000000000002', 'faulty', 'running', 'conservative',
   '{SOLUSDT}', 20, 1.60, 1, true, 'binance', 86400, 1, 0.01, 0.01, 0, 'm', '', '{}', null),
  ('20000000-0000-0000-0000-000000000004', '10000000-0000-0000-0000-000000000002', 'over', 'terminated', 'balanced',
   '{}', 20, 1.60, 10, true, 'aster', 45, 0.6, 1000, 10000, null, null, null, '{}', null);
select public.pause_strategy('20000000-0000-0000-0000-000000000003', 'five faults in a row', 'Traceback: …');

select public.put_credentials('10000000-0000-0000-0000-000000000001', 'aster', 'production',
  '{"api_key": "enc:v1:key:a", "api_secret": "enc:v1:key:b", "label": "main", "account_id": "7"}');
select public.put_credentials('10000000-0000-0000-0000-000000000001', 'webhook', 'production', '{"webhook_secret": "clear secret"}');
select public.put_credentials('10000000-0000-0000-0000-000000000002', 'hyperliquid', 'testnet',
  '{"private_key": "enc:v1:key:c", "user_address": "0x1", "signer_address": "0x2", "passphrase": "p"}');

insert into public.trade_settings_exchange (
  user_id, exchange, kill_switch, allow_weekends, max_signal_age_sec, max_daily_loss_usd, max_loss_per_week_usd,
  max_trades_per_week, max_consecutive_failures, max_concurrent_positions, max_position_size_usd
) values
  ('10000000-0000-0000-0000-000000000001', 'aster', false, true, 300, 500.25, 1500.75, 100, 5, 10, 5000.50),
  ('10000000-0000-0000-0000-000000000002', 'Binance', true, false, null, null, null, null, null, null, null);
select public.set_kill_switch('10000000-0000-0000-0000-000000000002', null, true, 'on holiday');
select public.set_kill_switch('10000000-0000-0000-0000-000000000002', '20000000-0000-0000-0000-000000000003', true);
select public.hold_lease('webhook', 'old-server', 0.001);

-- Decisions: one held, one without data, three that became signals.
select public.record_decision('30000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000001',
  '{"action": "HOLD", "symbol": "BTCUSDT", "confidence": 0.125, "reasoning": "quiet", "cost_usd": 0.00012345, "prompt_tokens": 1000,
    "cached_tokens": 10, "completion_tokens": 50, "latency_s": 1.2345678901234567, "model": "m", "request_id": "r", "raw_answer": "{}",
    "market": {"BTCUSDT": {"price": 20000.123456789012345}}}');
select public.record_decision('30000000-0000-0000-0000-000000000002', '20000000-0000-0000-0000-000000000003',
  '{"reason": "no answer", "is_fault": true}');
select public.record_decision('30000000-0000-0000-0000-000000000003', '20000000-0000-0000-0000-000000000001',
  '{"action": "LONG", "symbol": "BTCUSDT", "confidence": 0.875, "size_usd": 1234.56, "reasoning": "up", "cost_usd": 0.00000001,
    "stop_loss_percent": 1.25, "take_profit_percent": 3.5}',
  '{"action": "BUY", "symbol": "BTCUSDT", "exchange": "aster", "size_usd": 1234.56, "confidence": 0.875, "ttl_s": 1000000000}');
select public.record_decision('30000000-0000-0000-0000-000000000004', '20000000-0000-0000-0000-000000000001',
  '{"action": "SHORT", "symbol": "ETHUSDT", "confidence": 0.7, "size_usd": 100}',
  '{"action": "SELL", "symbol": "ETHUSDT", "exchange": "aster", "size_usd": 100, "confidence": 0.7, "ttl_s": 1000000000}');
select public.record_decision('30000000-0000-0000-0000-000000000005', '20000000-0000-0000-0000-000000000002',
  '{"action": "LONG", "symbol": "BTCUSDT", "confidence": 1, "size_usd": 999.99}',
  '{"action": "BUY", "symbol": "BTCUSDT", "exchange": "aster", "size_usd": 999.99, "confidence": 1, "ttl_s": 1000000000}');

-- The first signal was delivered, the second waits after one failed attempt, the third was never claimed.
select public.claim_signals('old-dispatcher', 2, 0.001);
select public.settle_signals('old-dispatcher', '[
  {"signal_id": "30000000-0000-0000-0000-000000000003", "outcome": "delivered", "status": 200},
  {"signal_id": "30000000-0000-0000-0000-000000000004", "outcome": "retry", "status": 503, "reason": "away", "retry_in_s": 0}
]');

-- On paper: an entry, an addition, a close of a part, at prices and quantities with all digits there can be.
select public.begin_execution(null, '30000000-0000-0000-0000-000000000003', '10000000-0000-0000-0000-000000000001',
  '20000000-0000-0000-0000-000000000001', 'aster', 'BTCUSDT', 'BUY', 'f1', '{"size": 1}', true);
select public.book_fill('30000000-0000-0000-0000-000000000003', '10000000-0000-0000-0000-000000000001',
  '{"kind": "open", "exchange": "aster", "symbol": "BTCUSDT", "side": "LONG", "quantity": 0.06172839, "price": 20000.12345678,
    "fee_usd": 0.61728395, "leverage": 3, "is_paper": true, "strategy_id": "20000000-0000-0000-0000-000000000001",
    "stop_loss_price": 19000.00000001, "take_profit_price": 23000.5, "order_id": "p1", "client_order_id": "c1",
    "market_time_ms": 1767312000123}', 200, '{"success": true, "price": 20000.12345678}');
select public.begin_execution(null, 'added', '10000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000001',
  'aster', 'BTCUSDT', 'BUY', 'f2', '{}', true);
select public.book_fill('added', '10000000-0000-0000-0000-000000000001',
  '{"kind": "open", "exchange": "aster", "symbol": "BTCUSDT", "side": "LONG", "quantity": 0.00000003, "price": 21000.7,
    "fee_usd": 0, "leverage": 3, "is_paper": true, "strategy_id": "20000000-0000-0000-0000-000000000001"}', 200, '{}');
select public.begin_execution(null, 'part', '10000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000001',
  'aster', 'BTCUSDT', 'CLOSE', 'f3', '{}', true);
select public.book_fill('part', '10000000-0000-0000-0000-000000000001',
  '{"kind": "close", "exchange": "aster", "symbol": "BTCUSDT", "side": "LONG", "quantity": 0.02, "price": 20500.33333333,
    "fee_usd": 0.20500333, "leverage": 3, "is_paper": true, "strategy_id": "20000000-0000-0000-0000-000000000001",
    "exit_reason": "signal"}', 200, '{"success": true}');

-- Live: a protected position of the strategy, one of the person alone, an order whose outcome is not known, an entry undone.
select public.begin_execution(null, 'live', '10000000-0000-0000-0000-000000000001', '20000000-0000-0000-0000-000000000002',
  'aster', 'BTCUSDT', 'BUY', 'f4', '{}', false);
select public.submit_request(null, 'live', '10000000-0000-0000-0000-000000000001');
select public.book_fill('live', '10000000-0000-0000-0000-000000000001',
  '{"kind": "open", "exchange": "aster", "symbol": "BTCUSDT", "side": "LONG", "quantity": 0.5, "price": 20000,
    "fee_usd": 5, "leverage": 5, "is_paper": false, "strategy_id": "20000000-0000-0000-0000-000000000002", "order_id": "1",
    "client_order_id": "sparky-1", "market_time_ms": 1767312000999}');
select public.book_protection('live', '10000000-0000-0000-0000-000000000001', p.id,
  '{"stop_loss_price": 19500, "take_profit_price": 21000, "stop_loss_order_id": "2", "take_profit_order_id": "3",
    "stop_loss_client_order_id": "sparky-2", "take_profit_client_order_id": "sparky-3"}', 200, '{"success": true}')
  from public.positions p where p.strategy_id = '20000000-0000-0000-0000-000000000002';
select public.begin_execution(null, 'own', '10000000-0000-0000-0000-000000000001', null, 'aster', 'SOLUSDT', 'SELL', 'f5', '{}', false);
select public.book_fill('own', '10000000-0000-0000-0000-000000000001',
  '{"kind": "open", "exchange": "aster", "symbol": "SOLUSDT", "side": "SHORT", "quantity": 12.25, "price": 99.99,
    "fee_usd": 0.5, "leverage": 1, "is_paper": false}', 200, '{"success": true}');
select public.begin_execution(null, 'undone', '10000000-0000-0000-0000-000000000001', null, 'aster', 'XRPUSDT', 'BUY', 'f6', '{}', false);
select public.book_fill('undone', '10000000-0000-0000-0000-000000000001',
  '{"kind": "open", "exchange": "aster", "symbol": "XRPUSDT", "side": "LONG", "quantity": 7, "price": 3, "fee_usd": 0.1,
    "leverage": 1, "is_paper": false}');
select public.book_fill('undone', '10000000-0000-0000-0000-000000000001',
  '{"kind": "undo", "exchange": "aster", "symbol": "XRPUSDT", "side": "LONG", "quantity": 7, "price": 2.99, "fee_usd": 0.1,
    "leverage": 1, "is_paper": false, "exit_reason": "unprotected"}', 502, '{"success": false}');
select public.begin_execution(null, 'unknown', '10000000-0000-0000-0000-000000000002', null, 'aster', 'ETHUSDT', 'BUY', 'f7', '{}', false);
select public.submit_request(null, 'unknown', '10000000-0000-0000-0000-000000000002');
select public.begin_execution(null, 'refused', '10000000-0000-0000-0000-000000000001', null, 'aster', 'ETHUSDT', 'BUY', 'f8', '{}', false);
select public.finish_request('refused', '10000000-0000-0000-0000-000000000001', 'refused', 403, '{"success": false}', 'a limit');

select public.mark_positions('aster', 'BTCUSDT', 20123.45678901);
select public.record_equity(0);
select public.report_reconciliation('10000000-0000-0000-0000-000000000002', 'aster', '{"BNBUSDT": -0.25, "SOLUSDT": 3}');
select public.report_reconciliation('10000000-0000-0000-0000-000000000002', 'aster', '{"BNBUSDT": -0.25}');
