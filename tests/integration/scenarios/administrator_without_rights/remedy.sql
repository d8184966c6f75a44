-- in database postgres
ALTER ROLE "{administrator}" CREATEROLE CREATEDB
