package footprint

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strings"
)

// Command makes a program that runs inside a node, as root in all its namespaces, see realnode.Nodes.Command. OfNode runs it.
type Command func(ctx context.Context, args ...string) (*exec.Cmd, error)

// mark begins a section of what the script prints.
const mark = "### "

// script prints what there is on a node. Sections that a node has not are empty; what it cannot look at is not there.
const script = `
section() { echo "` + mark + `$1"; }
section links; ip -j -d link show
section addresses; ip -j address show
section routes4; ip -o -4 route show table all
section routes6; ip -o -6 route show table all
section rules4; ip -4 rule show
section rules6; ip -6 rule show
section neighbours; ip neigh show nud permanent
section forwarding; bridge fdb show 2>/dev/null
section nftables; nft -s list ruleset
section settings; grep -r -s . /proc/sys/net
section mounts; cat /proc/self/mountinfo
section listening; ss -H -l -n -t -u -p
section files; for d in /etc /run /opt/cni /var/lib/spillway /var/lib/cni /etc/cni; do find $d -xdev -printf '%y %m %p %l\n' 2>/dev/null; done
section contents; find /etc /var/lib/spillway -xdev -type f -exec sha256sum {} + 2>/dev/null
section processes
for p in /proc/[0-9]*; do
	[ "$(readlink $p/ns/mnt)" = "$(readlink /proc/self/ns/mnt)" ] || continue
	[ "${p#/proc/}" = $$ ] || tr '\0' ' ' 2>/dev/null <$p/cmdline && echo
done
`

// OfNode takes down a node: its links, addresses, routes, rules and translations, the settings of its network, WireGuard devices among the links,
// mounts, files of /etc, /run and the folders of Spillway and the container network, programs and the ports they listen on.
func OfNode(ctx context.Context, command Command) (Footprint, error) {
	cmd, err := command(ctx, "sh", "-c", script)
	if err != nil {
		return nil, err
	}
	var errs bytes.Buffer
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("look at a node: %w: %s", err, errs.String())
	}
	return readNode(string(out))
}

// readNode reads what script printed.
func readNode(text string) (Footprint, error) {
	f := Footprint{}
	lines := map[string]func(line string){
		"routes4": f.route("-4"), "routes6": f.route("-6"), "rules4": f.plain("rule -4"), "rules6": f.plain("rule -6"),
		"neighbours": f.plain("neighbour"), "forwarding": f.plain("fdb"), "settings": f.setting, "mounts": f.mount,
		"listening": f.port, "files": f.file, "contents": f.content, "processes": f.process,
	}
	whole := map[string]func(text string) error{"links": f.links, "addresses": f.addresses, "nftables": f.ruleset}
	for _, section := range strings.Split("\n"+text, "\n"+mark)[1:] {
		name, body, _ := strings.Cut(section, "\n")
		if read := whole[name]; read != nil {
			if err := read(body); err != nil {
				return nil, fmt.Errorf("read %s of a node: %w", name, err)
			}
			continue
		}
		read := lines[name]
		if read == nil {
			return nil, fmt.Errorf("read a node: what is %q?", name)
		}
		for line := range strings.Lines(body) {
			if line = strings.TrimSpace(line); line != "" {
				read(line)
			}
		}
	}
	return f, nil
}

// plain has a line as it is.
func (f Footprint) plain(kind string) func(string) {
	return func(line string) { f.add(kind + " " + strings.Join(strings.Fields(line), " ")) }
}

// setting reads FILE:VALUE of /proc/sys/net. What the kernel counts there is no setting.
func (f Footprint) setting(line string) {
	file, value, _ := strings.Cut(line, ":")
	if strings.HasSuffix(file, "/nf_conntrack_count") {
		return
	}
	file = strings.TrimPrefix(file, "/proc/sys/")
	// Those of a link, net/ipv4/conf/LINK/NAME, come and go with it: they are one thing.
	if parts := strings.SplitN(file, "/", 5); len(parts) == 5 {
		f.add("settings of "+parts[3], fmt.Sprintf("%s %s %s = %s", parts[1], parts[2], parts[4], value))
		return
	}
	f.add("setting "+file, value)
}

// mount reads a line of mountinfo: what is mounted where. Numbers of mounts and devices are nobody's doing.
func (f Footprint) mount(line string) {
	first, last, _ := strings.Cut(line, " - ")
	words, rest := strings.Fields(first), strings.Fields(last)
	if len(words) < 5 || len(rest) < 2 {
		return
	}
	f.add("mount "+words[4], rest[0]+" "+rest[1]+" "+words[3])
}

// port reads a line of ss: who listens where. Who is told without the number of the process.
func (f Footprint) port(line string) {
	words := strings.Fields(line)
	if len(words) < 5 {
		return
	}
	program := "the kernel"
	if len(words) > 6 {
		if parts := strings.Split(words[6], `"`); len(parts) > 1 {
			program = parts[1]
		}
	}
	f.add("port "+words[0]+" "+words[4], program)
}

// file reads TYPE MODE PATH [TARGET]. What is in files below /run and /var/lib/cni is their programs' state.
func (f Footprint) file(line string) {
	words := strings.Fields(line)
	if len(words) < 3 {
		return
	}
	how := words[0] + " " + words[1]
	if len(words) > 3 {
		how += " → " + words[len(words)-1]
	}
	f.add("file "+words[2], how)
}

// content reads a line of sha256sum.
func (f Footprint) content(line string) {
	if sum, file, ok := strings.Cut(line, "  "); ok {
		f.add("file "+file, "contents "+sum[:min(12, len(sum))])
	}
}

// process reads a command line; the commands of script itself are none of the node's.
func (f Footprint) process(line string) {
	program, _, _ := strings.Cut(line, " ")
	switch program[strings.LastIndexByte(program, '/')+1:] {
	case "sh", "tr", "readlink", "runc", "nsenter":
		return
	}
	f.add("process " + line)
}
