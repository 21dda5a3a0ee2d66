-- Users of the audit store on MySQL and MariaDB. Run it once as an administrator, after the tables
-- were made (`smartops audit migrate` with the owner's URL), and put other passwords in:
--   mysql -u root -p < deployments/mysql/grants.sql
--
-- smartops       the recorder, the reconciler, runs: may add to the record, and nothing else to it
-- smartops_read  reports, `run list`, `audit verify`: may only read
-- The owner of the database migrates and prunes; no service needs its password.

CREATE USER 'smartops'@'%' IDENTIFIED BY 'change-me';
CREATE USER 'smartops_read'@'%' IDENTIFIED BY 'change-me';

-- The record itself: only ever added to. Without ALTER, DROP, TRIGGER and DELETE nothing can be
-- taken away, emptied or unguarded.
GRANT SELECT, INSERT ON smartops.event TO 'smartops'@'%';
GRANT SELECT ON smartops.event_held TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.seal TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.seal_part TO 'smartops'@'%';

-- What is derived from it, and can be derived again.
GRANT SELECT, INSERT, UPDATE ON smartops.stream TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.job_revision TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.job_run TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.step_run TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.device_command TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.run_process TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.slot TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.job_change TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.log_line TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.reading TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.artifact TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.approval TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.decision TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.child_run TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.device_change TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.alert TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.alert_delivery TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.alert_answer TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.report TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.quality_result TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.device_exchange TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.hold TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.lock_wait TO 'smartops'@'%';
-- Reports: what each hour comes to, and the bytes of reports.
GRANT SELECT, INSERT, UPDATE, DELETE ON smartops.rollup_run TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON smartops.rollup_step TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.rollup_state TO 'smartops'@'%';
GRANT SELECT, INSERT ON smartops.report_part TO 'smartops'@'%';
-- Alerts: what is to be judged, what goes on, what is to be said.
GRANT SELECT, INSERT, UPDATE ON smartops.alert_switch TO 'smartops'@'%';
GRANT SELECT, INSERT, DELETE ON smartops.alert_fact TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.alert_episode TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE ON smartops.alert_message TO 'smartops'@'%';
-- Whose turn it is, with SMARTOPS_LOCKS=database.
GRANT SELECT, INSERT, UPDATE, DELETE ON smartops.lock_turn TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON smartops.machine_beat TO 'smartops'@'%';
GRANT SELECT, INSERT, UPDATE, DELETE ON smartops.lock_place TO 'smartops'@'%';

GRANT SELECT ON smartops.alembic_version TO 'smartops'@'%';

GRANT SELECT ON smartops.* TO 'smartops_read'@'%';
