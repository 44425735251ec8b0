# What a real apt says of a dbuild repository over HTTP. Sourced by scripts, with
# $STATE as the repository's state.
set -eu

# fill makes a suite with everything that a suite may have, and one with xz.
fill() {
	for v in '1.0+x~1-1' '1:1.0+x~1-2'; do
		mkdir -p "tree-$v/DEBIAN" "tree-$v/usr/share/judged"
		cat >"tree-$v/DEBIAN/control" <<-X
			Package: judged
			Version: $v
			Architecture: all
			Section: misc
			Priority: optional
			Maintainer: A Maintainer <a@example.org>
			Description: short text
			 The long text, which is in Translation-en.
		X
		echo "$v" >"tree-$v/usr/share/judged/version"
		dpkg-deb -Zxz --root-owner-group -b "tree-$v" . >/dev/null
	done
	dbuild repo init --contents --translations --valid-for 7 --component main --component contrib judged
	dbuild repo init --xz --immutable judged-xz
	dbuild repo add -q -d judged 'judged_1.0+x~1-1_all.deb' ./*.dsc
	dbuild repo add -q -d judged-xz 'judged_1.0+x~1-1_all.deb'
}

# serve runs the server; its words, the source to paste, are in "served".
serve() {
	dbuild repo serve --listen 127.0.0.1:0 >served &
	server=$!
	trap 'kill -INT $server; wait $server' EXIT
	for _ in $(seq 600); do
		[ ! -s served ] || return 0
		sleep 0.1
	done
	echo 'the server does not start' >&2
	return 1
}

# stop asks the server to end, which is no failure of its.
stop() {
	trap - EXIT
	kill -INT $server
	wait $server
}

# within runs a program in a root, on the network of this machine.
within() {
	r=$1
	shift
	unshare --mount --pid --fork --mount-proc="$r/proc" sh -c 'mount --rbind /dev "$1/dev" && exec chroot "$@"' sh "$r" "$@"
}

# quietly runs apt-get in a root with every check on; whatever it complains of is
# an error.
quietly() {
	r=$1
	shift
	if ! within "$r" apt-get -y -o quiet=0 -o Acquire::Check-Valid-Until=true -o Acquire::Check-Date=true \
		-o APT::Update::Error-Mode=any -o Acquire::Retries=0 -o Acquire::http::Proxy=DIRECT "$@" >said 2>&1 </dev/null ||
		tr '\r' '\n' <said | grep -E '^(W|N|E|Err|Warning|Notice|Error)( |:)'; then
		cat said
		echo "in $r: apt-get $*" >&2
		return 1
	fi
}

# judge lets the apt of a root use the repository: with the key inline if it knows
# that.
judge() {
	root=$1 inline=$2
	rm -rf "$root"/etc/apt/sources.list* "$root"/etc/apt/apt.conf.d/*mmdebstrap
	mkdir -p "$root/etc/apt/sources.list.d" "$root/srv"
	sources=$root/etc/apt/sources.list.d
	if [ "$inline" = inline ]; then
		cp served "$sources/dbuild.sources"
	else
		cp "$STATE/repo/key.asc" "$root/srv/key.asc"
		for suite in judged judged-xz; do
			for type in deb deb-src; do
				echo "$type [signed-by=/srv/key.asc] $(sed -n 's/^URIs: //p' served | head -1) $suite main"
			done
		done >"$sources/dbuild.list"
	fi
	cat >"$root/etc/apt/apt.conf.d/contents" <<-'X'
		Acquire::IndexTargets::deb::Contents-deb {
			MetaKey "$(COMPONENT)/Contents-$(ARCHITECTURE)";
			ShortDescription "Contents-$(ARCHITECTURE)";
			Description "$(RELEASE)/$(COMPONENT) $(ARCHITECTURE) Contents (deb)";
		};
		Acquire::Languages { "en"; };
	X
	for byhash in force no; do
		rm -rf "$root"/var/lib/apt/lists/*
		quietly "$root" -o Acquire::By-Hash=$byhash -o Acquire::CompressionTypes::Order::=gz update
	done
	grep -q judged/version "$root"/var/lib/apt/lists/*_judged_main_Contents-all
	grep -q 'The long text' "$root"/var/lib/apt/lists/*_judged_main_i18n_Translation-en
	rm -rf "$root"/var/lib/apt/lists/*
	quietly "$root" -o Acquire::CompressionTypes::Order::=xz update
	tr '\r' '\n' <said | grep -F "judged-xz/main $ARCH Packages [$(stat -c %s "$STATE/repo/dists/judged-xz/main/binary-$ARCH/Packages.xz") B]"
	quietly "$root" update
	quietly "$root" install judged
	grep -qF '1.0+x~1-1' "$root/usr/share/judged/version"
	# As apt does it, in a directory that its own user can write to.
	mkdir "$root/srv/source"
	chown "$(within "$root" id -u _apt)" "$root/srv/source"
	within "$root" sh -c 'cd /srv/source && exec "$@"' sh apt-get -o Acquire::http::Proxy=DIRECT source --download-only tiny >said 2>&1
	if grep -E '^(W|N|E|Err|Warning|Notice|Error)( |:)' said; then
		return 1
	fi
	cmp "$root/srv/source/"*.dsc ./*.dsc
}

# upgrade lets it see what was published since.
upgrade() {
	quietly "$1" update
	quietly "$1" upgrade
	grep -qF '1:1.0+x~1-2' "$1/usr/share/judged/version"
	quietly "$1" update # nothing new
}

# shapes lets it read copies with one sort of Release file alone.
shapes() {
	root=$1
	rm "$root"/etc/apt/sources.list.d/*
	for shape in InRelease Release; do
		cp -a "$STATE/repo" "$root/srv/$shape"
		case $shape in
		InRelease) find "$root/srv/$shape/dists" '(' -name Release -o -name Release.gpg ')' -delete ;;
		Release) find "$root/srv/$shape/dists" -name InRelease -delete ;;
		esac
		echo "deb [signed-by=/srv/$shape/key.asc] copy:/srv/$shape judged main" >"$root/etc/apt/sources.list"
		rm -rf "$root"/var/lib/apt/lists/*
		quietly "$root" update
		[ "$(find "$root/var/lib/apt/lists" -name '*_judged_main_binary-*_Packages*' | wc -l)" = 1 ]
	done
}
