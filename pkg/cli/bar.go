// SPDX-License-Identifier: Apache-2.0

package cli

import "strings"

// Bar of what is there of all, in so many characters. It is empty only when nothing is, and full only when all is.
func Bar(part, all, width int) string {
	filled := 0
	if all > 0 {
		filled = part * width / all
	}
	if part > 0 {
		filled = max(filled, 1)
	}
	return strings.Repeat("█", filled) + strings.Repeat("░", width-filled)
}
