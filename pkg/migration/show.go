// SPDX-License-Identifier: Apache-2.0

package migration

import (
	"bytes"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/dovetail-dev/dovetail/pkg/cli"
)

// Screen draws the progress on a terminal, each time over what it drew before.
type Screen struct {
	W io.Writer
	// Size of the terminal now. A longer line would take two, and what has left the screen at its top cannot be drawn over.
	Size func() (columns, rows int)

	drawn int // lines
}

// Show the progress.
func (s *Screen) Show(p Progress) error {
	var text, frame bytes.Buffer
	p.Print(cli.Plain(&text))
	if s.drawn > 0 {
		fmt.Fprintf(&frame, "\x1b[%dA\x1b[J", s.drawn) // up, and clear from there
	}
	s.drawn = 0
	columns, rows := s.Size()
	for line := range strings.Lines(text.String()) {
		if s.drawn == max(rows-1, 1) { // the cursor takes one
			break
		}
		s.drawn++
		fmt.Fprintln(&frame, cut(strings.TrimSuffix(line, "\n"), columns))
	}
	_, err := s.W.Write(frame.Bytes())
	return err
}

func cut(line string, width int) string {
	if runes := []rune(line); len(runes) > width {
		return string(runes[:max(width-1, 0)]) + "…"
	}
	return line
}

// Log writes a line for each object that has changed.
type Log struct {
	W io.Writer

	last map[string]string
}

// Show what has changed since it was called before. That time passes is no change.
func (l *Log) Show(p Progress) error {
	if l.last == nil {
		l.last = map[string]string{}
	}
	for _, m := range p.NodeMigrations {
		text := m.state() + "; "
		pace := m.Pace
		m.Pace = Pace{}
		text += m.counts()
		blocked := ""
		if len(m.Blocked) > 0 {
			blocked = fmt.Sprintf("; %s: %s", m.Blocked[0].Reason, m.Blocked[0].Message)
		}
		if err := l.line(p.Time, "NodeMigration "+m.Name, text, pace, blocked); err != nil {
			return err
		}
	}
	for _, d := range p.PodNetworks {
		pace := d.Pace
		d.Pace = Pace{}
		blocked := ""
		if len(d.Blocked) > 0 {
			blocked = fmt.Sprintf("; %s: %s", cli.Some(d.Blocked[0].Objects), d.Blocked[0].Message)
		}
		if err := l.line(p.Time, "PodNetwork "+d.Name, d.counts(), pace, blocked); err != nil {
			return err
		}
	}
	return nil
}

func (l *Log) line(at time.Time, object, text string, pace Pace, blocked string) error {
	if l.last[object] == text+blocked {
		return nil
	}
	l.last[object] = text + blocked
	_, err := fmt.Fprintf(l.W, "%s %s: %s%s%s\n", at.Format(time.TimeOnly), object, text, pace, blocked)
	return err
}
