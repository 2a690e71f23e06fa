package main

import (
	"context"
	"fmt"
	"os/exec"
	"strings"
)

const commandsHead = `<!-- make generate writes this page from the commands themselves. -->
# Commands

What ` + "`--help`" + ` says, on one page. [` + "`spillway`" + `](#spillway) is for people; [` + "`spillwayd`" + `](#spillwayd) is what the chart runs in a cluster.
Exit status: 0 when it went well, 1 when it failed, 2 when the command line was wrong.
`

// commandsPage asks both programs for their reference.
func commandsPage(ctx context.Context) (string, error) {
	var b strings.Builder
	b.WriteString(commandsHead)
	for _, program := range []string{"spillway", "spillwayd"} {
		text, err := exec.CommandContext(ctx, "go", "run", "./cmd/"+program, "docs").Output()
		if err != nil {
			return "", fmt.Errorf("ask %s for its commands: %w", program, err)
		}
		fmt.Fprintf(&b, "\n## %s\n\n%s", program, text)
	}
	return b.String(), nil
}
