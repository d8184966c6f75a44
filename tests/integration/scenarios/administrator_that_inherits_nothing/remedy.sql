-- in database postgres
ALTER ROLE "{administrator}" INHERIT
