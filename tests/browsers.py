"""User-Agents of common browsers, for the tests of bot detection."""

_WEBKIT = "AppleWebKit/537.36 (KHTML, like Gecko)"
_APPLE = "AppleWebKit/605.1.15 (KHTML, like Gecko)"
_WINDOWS = "Mozilla/5.0 (Windows NT 10.0; Win64; x64)"
_MAC = "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7)"
_LINUX = "Mozilla/5.0 (X11; Linux x86_64)"
_CHROMEBOOK = "Mozilla/5.0 (X11; CrOS x86_64 14541.0.0)"
_ANDROID = "Mozilla/5.0 (Linux; Android 10; K)"
_IPHONE = "Mozilla/5.0 (iPhone; CPU iPhone OS 18_6 like Mac OS X)"
_IPAD = "Mozilla/5.0 (iPad; CPU OS 18_6 like Mac OS X)"
_CHROME = "Chrome/142.0.0.0 Safari/537.36"
_CHROME_MOBILE = "Chrome/142.0.0.0 Mobile Safari/537.36"

BROWSERS = (
    # Chrome
    f"{_WINDOWS} {_WEBKIT} {_CHROME}",
    f"Mozilla/5.0 (Windows NT 6.1; WOW64) {_WEBKIT} Chrome/109.0.0.0 Safari/537.36",
    f"{_MAC} {_WEBKIT} {_CHROME}",
    f"{_LINUX} {_WEBKIT} {_CHROME}",
    f"Mozilla/5.0 (X11; Ubuntu; Linux x86_64) {_WEBKIT} {_CHROME}",
    f"{_CHROMEBOOK} {_WEBKIT} {_CHROME}",
    f"Mozilla/5.0 (X11; CrOS aarch64 15236.80.0) {_WEBKIT} {_CHROME}",
    f"{_ANDROID} {_WEBKIT} {_CHROME_MOBILE}",
    f"{_ANDROID} {_WEBKIT} {_CHROME}",
    f"Mozilla/5.0 (Linux; Android 14; Pixel 8 Pro) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 13; Pixel 6a) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 15; SM-S938B) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 13; SM-X700) {_WEBKIT} {_CHROME}",
    f"Mozilla/5.0 (Linux; Android 11; moto g(60)s) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 12; moto g power (2022)) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 11; Redmi Note 8 Pro) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 14; 23127PN0CC) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 13; CPH2451) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 10; VOG-L29) {_WEBKIT} {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 12; vivo 1904) {_WEBKIT} {_CHROME_MOBILE}",
    f"{_IPHONE} {_APPLE} CriOS/142.0.7444.46 Mobile/15E148 Safari/604.1",
    f"{_IPAD} {_APPLE} CriOS/142.0.7444.46 Mobile/15E148 Safari/604.1",
    f"{_MAC} {_APPLE} CriOS/142.0.7444.46 Mobile/15E148 Safari/604.1",
    f"{_IPHONE} {_APPLE} GSA/391.0.825719456 Mobile/15E148 Safari/604.1",
    # Edge
    f"{_WINDOWS} {_WEBKIT} {_CHROME} Edg/142.0.0.0",
    f"{_MAC} {_WEBKIT} {_CHROME} Edg/142.0.0.0",
    f"{_ANDROID} {_WEBKIT} {_CHROME_MOBILE} EdgA/142.0.0.0",
    f"{_IPHONE} {_APPLE} Version/18.0 EdgiOS/142.0.3595.66 Mobile/15E148 Safari/605.1.15",
    f"{_WINDOWS} {_WEBKIT} Chrome/64.0.3282.140 Safari/537.36 Edge/18.17763",
    # Firefox
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (Macintosh; Intel Mac OS X 10.15; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux x86_64; rv:145.0) Gecko/20100101 Firefox/145.0",
    "Mozilla/5.0 (X11; Linux i686; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (Android 14; Mobile; rv:145.0) Gecko/145.0 Firefox/145.0",
    "Mozilla/5.0 (Android 14; Tablet; rv:145.0) Gecko/145.0 Firefox/145.0",
    f"{_IPHONE} {_APPLE} FxiOS/145.0 Mobile/15E148 Safari/605.1.15",
    # Safari
    f"{_MAC} {_APPLE} Version/18.6 Safari/605.1.15",
    f"{_IPHONE} {_APPLE} Version/18.6 Mobile/15E148 Safari/604.1",
    f"{_IPAD} {_APPLE} Version/18.6 Mobile/15E148 Safari/604.1",
    (
        "Mozilla/5.0 (iPod touch; CPU iPhone OS 12_5 like Mac OS X) AppleWebKit/605.1.15"
        " (KHTML, like Gecko) Version/12.1 Mobile/15E148 Safari/604.1"
    ),
    # Opera, Samsung Internet and others
    f"{_WINDOWS} {_WEBKIT} {_CHROME} OPR/125.0.0.0",
    f"{_WINDOWS} {_WEBKIT} {_CHROME} OPR/125.0.0.0 (Edition std-1)",
    f"{_ANDROID} {_WEBKIT} {_CHROME_MOBILE} OPR/92.0.0.0",
    f"{_IPHONE} {_APPLE} Version/18.6 Mobile/15E148 Safari/604.1 OPT/5.6.0",
    f"{_ANDROID} {_WEBKIT} SamsungBrowser/29.0 {_CHROME_MOBILE}",
    f"Mozilla/5.0 (Linux; Android 12; SAMSUNG SM-G991B) {_WEBKIT} SamsungBrowser/23.0 {_CHROME_MOBILE}",
    f"{_LINUX} {_WEBKIT} SamsungBrowser/29.0 {_CHROME}",
    f"{_WINDOWS} {_WEBKIT} {_CHROME} Vivaldi/7.6.3797.63",
    f"{_WINDOWS} {_WEBKIT} Chrome/142.0.0.0 YaBrowser/25.10.0.0 Safari/537.36",
    f"{_WINDOWS} {_WEBKIT} Chrome/142.0.0.0 Whale/4.34.340.19 Safari/537.36",
    f"{_ANDROID} {_WEBKIT} Version/4.0 {_CHROME_MOBILE} DuckDuckGo/5",
    f"{_MAC} {_APPLE} Version/18.6 Safari/605.1.15 Ddg/18.6",
    f"{_IPHONE} {_APPLE} Version/18.6 Brave/1 Mobile/15E148 Safari/604.1",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; Trident/7.0; rv:11.0) like Gecko",
    f"{_MAC} {_APPLE} Version/17.0 Safari/605.1.15",
    f"Mozilla/5.0 (PlayStation; PlayStation 5/6.50) {_APPLE} Version/17.0 Safari/605.1.15",
    # Inside other apps
    (
        f"Mozilla/5.0 (Linux; Android 14; SM-S911B Build/UP1A.231005.007; wv) {_WEBKIT} Version/4.0"
        f" {_CHROME_MOBILE} [FB_IAB/FB4A;FBAV/479.0.0.57.87;]"
    ),
    (
        f"{_IPHONE} {_APPLE} Mobile/15E148 [FBAN/FBIOS;FBAV/487.0.0.37.108;FBBV/651327111;FBDV/iPhone14,5;"
        "FBMD/iPhone;FBSN/iOS;FBSV/18.6;FBSS/3;FBID/phone;FBLC/en_US;FBOP/5;FBRV/0]"
    ),
    (
        f"{_IPHONE} {_APPLE} Mobile/15E148 Instagram 344.0.0.28.98 (iPhone14,5; iOS 18_6; en_US; en; "
        "scale=3.00; 1170x2532; 627400398)"
    ),
)
