// Package manual writes the reference of a program from its commands, as Markdown: what `docs` prints, a command that helps
// whoever writes the pages and is not shown to anybody else.
//
//	root.AddCommand(manual.Command())
//
// It knows how a command describes itself, and no command.
package manual

import (
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// Command prints the reference of the program it belongs to.
func Command() *cobra.Command {
	return &cobra.Command{
		Use:    "docs",
		Short:  "Print the reference of all commands as Markdown",
		Hidden: true,
		Args:   cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return Write(cmd.OutOrStdout(), cmd.Root())
		},
	}
}

// Write prints every command of root, each under a heading of the third level, after a table that lists them. The same commands
// give the same bytes on every machine where flags say in words, as "(default: …)", what depends on the machine.
func Write(w io.Writer, root *cobra.Command) error {
	var b strings.Builder
	commands := below(root)
	b.WriteString("| command | what it does |\n|---|---|\n")
	for _, cmd := range commands {
		fmt.Fprintf(&b, "| [`%s`](#%s) | %s |\n", cmd.CommandPath(), anchor(cmd.CommandPath()), Cell(cmd.Short))
	}
	for _, cmd := range commands {
		section(&b, cmd)
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// below are cmd, if it does something, and all commands below it that users are shown, in the order in which help lists them.
func below(cmd *cobra.Command) []*cobra.Command {
	var out []*cobra.Command
	if cmd.HasParent() {
		out = append(out, cmd)
	}
	if cmd.Name() == "completion" {
		return out // a command for each shell says no more
	}
	for _, child := range cmd.Commands() {
		if child.IsAvailableCommand() && child.Name() != "help" {
			out = append(out, below(child)...)
		}
	}
	return out
}

func section(b *strings.Builder, cmd *cobra.Command) {
	fmt.Fprintf(b, "\n### %s\n\n", cmd.CommandPath())
	text := cmd.Long
	if text == "" {
		text = cmd.Short + "."
	}
	b.WriteString(strings.TrimSpace(text) + "\n")
	fmt.Fprintf(b, "\n```\n%s\n```\n", usage(cmd))
	if example := dedent(cmd.Example); example != "" {
		fmt.Fprintf(b, "\n```sh\n%s\n```\n", example)
	}
	rows := flagRows(cmd)
	if len(rows) > 0 {
		b.WriteString("\n| flag | default | what it says |\n|---|---|---|\n" + strings.Join(rows, ""))
	}
}

// usage is the line that says how cmd is called; a command that only has others below it is called with one of those.
func usage(cmd *cobra.Command) string {
	if cmd.HasAvailableSubCommands() && !strings.Contains(cmd.Use, " ") && len(flagRows(cmd)) == 0 {
		return cmd.CommandPath() + " [command]"
	}
	return cmd.UseLine()
}

func flagRows(cmd *cobra.Command) []string {
	var rows []string
	cmd.NonInheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			rows = append(rows, flagRow(f))
		}
	})
	cmd.InheritedFlags().VisitAll(func(f *pflag.Flag) {
		if !f.Hidden && f.Name != "help" {
			rows = append(rows, flagRow(f))
		}
	})
	return rows
}

func flagRow(f *pflag.Flag) string {
	kind, says := pflag.UnquoteUsage(f)
	name := "`--" + f.Name + "`"
	if f.Shorthand != "" {
		name = "`-" + f.Shorthand + "`, " + name
	}
	if kind != "" {
		name += " " + kind
	}
	return fmt.Sprintf("| %s | %s | %s |\n", name, defaultOf(f), Cell(says))
}

// defaultOf is the default of a flag as a reader wants to see it: nothing where it is what an absent flag means anyway, or where the
// usage has it in words.
func defaultOf(f *pflag.Flag) string {
	if strings.Contains(f.Usage, "(default: ") {
		return ""
	}
	switch f.DefValue {
	case "", "0", "0s", "false", "[]", "<nil>":
		return ""
	}
	value := f.DefValue
	if strings.HasSuffix(f.Value.Type(), "Slice") || strings.HasSuffix(f.Value.Type(), "Array") {
		value = strings.Trim(value, "[]")
	}
	if f.Value.Type() == "duration" {
		value = shortDuration(value)
	}
	return "`" + value + "`"
}

// shortDuration turns 2m0s into 2m, and 1h0m0s into 1h.
func shortDuration(d string) string {
	if strings.HasSuffix(d, "m0s") {
		d = strings.TrimSuffix(d, "0s")
	}
	if strings.HasSuffix(d, "h0m") {
		d = strings.TrimSuffix(d, "0m")
	}
	return d
}

// dedent takes the indentation of the first line from all of them.
func dedent(text string) string {
	text = strings.Trim(text, "\n")
	margin := text[:len(text)-len(strings.TrimLeft(text, " "))]
	lines := strings.Split(text, "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(strings.TrimPrefix(line, margin), " ")
	}
	return strings.Join(lines, "\n")
}

// anchor is the name that renderers of Markdown give a heading of words.
func anchor(heading string) string {
	return strings.ReplaceAll(strings.ToLower(heading), " ", "-")
}

// Cell makes text fit into one cell of a table, without a meaning to Markdown.
func Cell(text string) string {
	text = strings.Join(strings.Fields(text), " ")
	return strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;", "*", `\*`).Replace(text)
}
