#!/bin/sh
# A Catalyst application's own FastCGI script, started by spawn-fcgi behind nginx or lighttpd.
exec spawn-fcgi -s /run/app/app.sock -M 0660 -u app -g app -U app -G www-data -P /run/app/app.pid -- \
    /srv/app/script/myapp_fastcgi.pl -n 8 -e
