// Copyright The rekey Authors.
// SPDX-License-Identifier: Apache-2.0

package handshake

import (
	"fmt"
	"slices"
)

// Alert is the description of a TLS alert (RFC 8446, section 6). The zero value, close_notify, stands for none.
type Alert uint8

// The alerts that are distinguished.
const (
	alertUnexpectedMessage      Alert = 10
	alertHandshakeFailure       Alert = 40
	alertNoCertificate          Alert = 41
	alertBadCertificate         Alert = 42
	alertUnsupportedCertificate Alert = 43
	alertCertificateRevoked     Alert = 44
	alertCertificateExpired     Alert = 45
	alertCertificateUnknown     Alert = 46
	alertIllegalParameter       Alert = 47
	alertUnknownCA              Alert = 48
	alertDecodeError            Alert = 50
	alertDecryptError           Alert = 51
	alertProtocolVersion        Alert = 70
	alertInsufficientSecurity   Alert = 71
	alertInternalError          Alert = 80
	alertInappropriateFallback  Alert = 86
	alertMissingExtension       Alert = 109
	alertUnsupportedExtension   Alert = 110
	alertUnrecognizedName       Alert = 112
	alertCertificateRequired    Alert = 116
	alertNoApplicationProtocol  Alert = 120
)

// alertNames are the names in RFC 8446, and of SSL 3 where servers still send its alerts.
var alertNames = map[Alert]string{
	alertUnexpectedMessage: "unexpected_message", 20: "bad_record_mac", 22: "record_overflow", alertHandshakeFailure: "handshake_failure",
	alertNoCertificate: "no_certificate", alertBadCertificate: "bad_certificate", alertUnsupportedCertificate: "unsupported_certificate",
	alertCertificateRevoked: "certificate_revoked", alertCertificateExpired: "certificate_expired", alertCertificateUnknown: "certificate_unknown",
	alertIllegalParameter: "illegal_parameter", alertUnknownCA: "unknown_ca", 49: "access_denied", alertDecodeError: "decode_error",
	alertDecryptError: "decrypt_error", alertProtocolVersion: "protocol_version", alertInsufficientSecurity: "insufficient_security",
	alertInternalError: "internal_error", alertInappropriateFallback: "inappropriate_fallback", 90: "user_canceled", 100: "no_renegotiation",
	alertMissingExtension: "missing_extension", alertUnsupportedExtension: "unsupported_extension", alertUnrecognizedName: "unrecognized_name",
	113: "bad_certificate_status_response", 115: "unknown_psk_identity", alertCertificateRequired: "certificate_required",
	alertNoApplicationProtocol: "no_application_protocol",
}

// String returns the name of the alert, with its number.
func (a Alert) String() string {
	if name, ok := alertNames[a]; ok {
		return fmt.Sprintf("%s (%d)", name, uint8(a))
	}
	return fmt.Sprintf("%d", uint8(a))
}

// missingCertificate reports whether servers send the alert to a client without a certificate, if they requested one.
func (a Alert) missingCertificate(requested bool) bool {
	if a == alertCertificateRequired || a == alertNoCertificate {
		return true
	}
	return requested && (a == alertHandshakeFailure || a == alertBadCertificate || a == alertCertificateUnknown)
}

// aboutProtocol reports whether the alert is about the protocol rather than about a certificate.
func (a Alert) aboutProtocol() bool {
	return slices.Contains([]Alert{
		alertUnexpectedMessage, alertIllegalParameter, alertDecodeError, alertProtocolVersion, alertInsufficientSecurity, alertInappropriateFallback,
		alertMissingExtension, alertUnsupportedExtension, alertNoApplicationProtocol,
	}, a)
}
