package main

import (
	"context"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"k8s.io/apimachinery/pkg/util/validation"
)

// explainTimeout bounds all that explain reads.
const explainTimeout = 30 * time.Second

// explainWish is what a user wants explained.
type explainWish struct {
	local, remote access
	remoteGiven   bool
	namespace     string // empty: that of the context
	name          string // of the pod
	format        string
}

func explainCommand(term terminal) *cobra.Command {
	var wish explainWish
	cmd := &cobra.Command{
		Use:   "explain pod/NAME",
		Short: "Explain why a pod is where it is, and what the provider says of it",
		Long: `Explain tells of a pod of this cluster: which node it is bound to and whether that stands for a peer, or why it is bound to
none; whether it may leave the cluster at all; its twin in the provider; the ConfigMaps and Secrets that follow it; how the
peering is; what was said of it last; and, when something is wrong, what to do.

Name the provider too (--remote-context) to see the twin itself, its node and what has arrived for it. Without, explain tells
what this cluster knows. It only reads, and reads no content of Secrets.`,
		Example: `  spillway explain pod/web-0 -n shop
  spillway explain pod/web-0 -n shop --context home --remote-context cloud

  # for a script
  spillway explain pod/web-0 -n shop -o json`,
		Args: onePod,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := wish.complete(args); err != nil {
				return err
			}
			return asFailure(runExplain(cmd.Context(), term, wish))
		},
	}
	flags := cmd.Flags()
	flags.SortFlags = false
	flags.StringVarP(&wish.namespace, "namespace", "n", "", "namespace of the pod (default: that of the context)")
	addAccessFlags(flags, &wish.local, &wish.remote)
	flags.StringVarP(&wish.format, "output", "o", "", "print json or yaml")
	return cmd
}

// onePod refuses anything but the name of one pod with a sentence.
func onePod(_ *cobra.Command, args []string) error {
	const how = "Name it like kubectl does: pod/NAME, with -n NAMESPACE."
	switch {
	case len(args) == 0:
		return usagef(how, "it is not said which pod to explain")
	case len(args) > 2, len(args) == 2 && (!isPodKind(args[0]) || strings.Contains(args[1], "/")):
		return usagef(how, "explain takes one pod, but got %q", args)
	}
	return nil
}

// isPodKind says whether a word stands for pods, as kubectl understands it.
func isPodKind(word string) bool {
	switch strings.ToLower(word) {
	case "pod", "pods", "po":
		return true
	}
	return false
}

// complete reads the arguments, checks the flags and fills in what follows from others.
func (w *explainWish) complete(args []string) error {
	const how = "Name it like kubectl does: pod/NAME, with -n NAMESPACE."
	w.name = args[len(args)-1]
	if kind, name, found := strings.Cut(w.name, "/"); found {
		if !isPodKind(kind) {
			return usagef(how, "explain knows pods only, but got %q", w.name)
		}
		w.name = name
	}
	if len(validation.IsDNS1123Subdomain(w.name)) > 0 {
		return usagef(how, "%q cannot be the name of a pod", w.name)
	}
	if w.namespace != "" && len(validation.IsDNS1123Label(w.namespace)) > 0 {
		return usagef("Use lower-case letters, digits and hyphens.", "--namespace %q cannot be the name of a namespace", w.namespace)
	}
	w.remoteGiven = w.remote != access{}
	w.remote = remoteAccess(w.local, w.remote)
	return checkFormat(w.format, formatJSON, formatYAML)
}

func runExplain(ctx context.Context, term terminal, wish explainWish) error {
	ctx, cancel := context.WithTimeout(ctx, explainTimeout)
	defer cancel()
	facts, err := gatherPod(ctx, wish)
	if err != nil {
		return err
	}
	story := tell(facts)
	if wish.format != "" {
		return printObject(term.out, wish.format, story)
	}
	return story.print(term.out)
}
