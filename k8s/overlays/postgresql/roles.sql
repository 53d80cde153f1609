-- The database of the journal and its three roles: run once by an administrator of PostgreSQL (15 or newer), with psql:
--   psql --set owner_password=... --set serve_password=... --set work_password=... --file roles.sql
-- After it: receiver journal migrate --serve-role receiver_serve --work-role receiver_work, as receiver_owner.
-- That creates the tables and grants each plane what it needs of them, and no more.
\set ON_ERROR_STOP on

CREATE ROLE receiver_owner LOGIN PASSWORD :'owner_password';
-- Limited, so that a plane in an attacker's hands leaves connections to the other.
CREATE ROLE receiver_serve LOGIN CONNECTION LIMIT 40 PASSWORD :'serve_password';
CREATE ROLE receiver_work LOGIN PASSWORD :'work_password';

-- An administrator who is no superuser may only give a database to a role that he belongs to.
GRANT receiver_owner TO CURRENT_USER;
CREATE DATABASE receiver OWNER receiver_owner TEMPLATE template0 ENCODING 'UTF8';
REVOKE ALL ON DATABASE receiver FROM PUBLIC;
GRANT CONNECT ON DATABASE receiver TO receiver_serve, receiver_work;

\connect receiver
SET ROLE receiver_owner;
REVOKE ALL ON SCHEMA public FROM PUBLIC;
GRANT USAGE ON SCHEMA public TO receiver_serve, receiver_work;
