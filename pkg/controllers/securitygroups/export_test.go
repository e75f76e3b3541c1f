// SPDX-License-Identifier: Apache-2.0

package securitygroups

// NodeChanged is what hears of nodes.
var NodeChanged = (*Controller).nodeChanged
