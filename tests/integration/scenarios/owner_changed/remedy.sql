-- in database shop as {administrator}
GRANT "old_owner", "new_owner" TO CURRENT_USER; REASSIGN OWNED BY "old_owner" TO "new_owner"; REVOKE "old_owner", "new_owner" FROM CURRENT_USER
