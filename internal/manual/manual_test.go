package manual

import (
	"strings"
	"testing"
	"time"

	"github.com/spf13/cobra"
)

func TestWrite(t *testing.T) {
	root := &cobra.Command{Use: "spillway"}
	peer := &cobra.Command{
		Use: "peer NAME", Short: "Peer with a | b", Long: "Peer does it.\n\nTwice.", Example: "  # first\n  spillway peer a\n",
		Run: func(*cobra.Command, []string) {},
	}
	peer.Flags().Duration("timeout", 2*time.Minute, "how long")
	peer.Flags().StringP("output", "o", "", "`format` of the <output>")
	peer.Flags().String("as", "this-machine", "who asks (default: the host's name)")
	peer.Flags().Bool("wait", true, "stay")
	peer.Flags().Bool("secret", false, "not for everybody")
	if err := peer.Flags().MarkHidden("secret"); err != nil {
		t.Fatal(err)
	}
	bench := &cobra.Command{Use: "bench", Short: "Measure"}
	bench.AddCommand(&cobra.Command{Use: "network", Short: "Measure the network", Run: func(*cobra.Command, []string) {}})
	root.AddCommand(peer, bench, Command())

	const want = `| command | what it does |
|---|---|
| [` + "`spillway bench`](#spillway-bench)" + ` | Measure |
| [` + "`spillway bench network`](#spillway-bench-network)" + ` | Measure the network |
| [` + "`spillway peer`](#spillway-peer)" + ` | Peer with a \| b |

### spillway bench

Measure.

` + "```\nspillway bench [command]\n```" + `

### spillway bench network

Measure the network.

` + "```\nspillway bench network\n```" + `

### spillway peer

Peer does it.

Twice.

` + "```\nspillway peer NAME [flags]\n```\n\n```sh\n# first\nspillway peer a\n```" + `

| flag | default | what it says |
|---|---|---|
| ` + "`--as` string |  | who asks (default: the host's name) |" + `
| ` + "`-o`, `--output` format |  | format of the &lt;output&gt; |" + `
| ` + "`--timeout` duration | `2m` | how long |" + `
| ` + "`--wait` | `true` | stay |\n"
	var b strings.Builder
	if err := Write(&b, root); err != nil {
		t.Fatal(err)
	}
	if got := b.String(); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}
