#!/bin/sh
# The same application under BladePSGI, which makes the socket, drops root and watches the processes itself. Catalyst has made the
# file myapp.psgi beside the script, or will: script/myapp_create.pl PSGI.
exec bladepsgi-fcgi --user=app --group=app --socket-group=www-data -l /run/app/app.sock -n 8 -e -p /run/app/app.pid -d \
    /srv/app/myapp.psgi 2>>/var/log/app.log
